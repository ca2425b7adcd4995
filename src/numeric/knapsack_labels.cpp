// Two budgets: partial choices with their true costs and times, thinned by a grid.
#include <algorithm>
#include <array>
#include <cmath>

#include "numeric/knapsack.h"

namespace mcompress {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Label {
  double cost = 0, time = 0, loss = 0;
  std::uint32_t parent = 0;  // place among the labels of the item before, both colours together
  std::uint32_t choice = 0;
};

// Which label led to one, by the labels' places: colour 0 first.
struct LabelStep {
  std::uint32_t parent, choice;
};

class Labels {
 public:
  Labels(const KnapsackProblem& problem, std::size_t most) : problem_(problem), most_(most) {}

  std::optional<std::vector<std::size_t>> solve() {
    if (!find_room()) return std::nullopt;
    std::array<std::vector<Label>, 2> now;
    now[0].push_back({});
    for (std::size_t i = 0; i < problem_.items.size(); ++i) {
      std::array<std::vector<Label>, 2> next = expanded(i, now);
      auto& steps = steps_.emplace_back();
      for (auto& labels : next) {
        if (labels.size() > most_) thin(labels, i);
        for (const Label& label : labels) steps.push_back({label.parent, label.choice});
      }
      now = std::move(next);
    }
    std::size_t best = 0, place = 0;
    double loss = kInfinity;
    for (const auto& labels : now) {
      for (const Label& label : labels) {
        if (label.loss < loss) loss = label.loss, best = place;
        ++place;
      }
    }
    if (place == 0) return std::nullopt;
    std::vector<std::size_t> chosen(problem_.items.size());
    for (std::size_t i = chosen.size(); i-- > 0;) {
      chosen[i] = steps_[i][best].choice;
      best = steps_[i][best].parent;
    }
    return chosen;
  }

 private:
  // The least that the items from one on can use; what that leaves of the budgets, no more than
  // all choices together could take.
  bool find_room() {
    const std::size_t n = problem_.items.size();
    least_cost_.assign(n + 1, 0), least_time_.assign(n + 1, 0);
    double most_cost = 0, most_time = 0;
    for (std::size_t i = n; i-- > 0;) {
      if (problem_.items[i].empty()) return false;
      double cost = kInfinity, time = kInfinity, dear = -kInfinity, slow = -kInfinity;
      for (const KnapsackChoice& choice : problem_.items[i]) {
        cost = std::min(cost, choice.cost), dear = std::max(dear, choice.cost);
        time = std::min(time, choice.time), slow = std::max(slow, choice.time);
      }
      least_cost_[i] = least_cost_[i + 1] + cost;
      least_time_[i] = least_time_[i + 1] + time;
      most_cost += dear, most_time += slow;
    }
    for (const double time : problem_.border_times) most_time += std::max(time, 0.0);
    room_cost_ = std::min(problem_.budget, most_cost) - least_cost_[0];
    room_time_ = std::min(problem_.time_budget, most_time) - least_time_[0];
    slack_cost_ = 1e-9 * std::abs(problem_.budget);
    slack_time_ = 1e-9 * std::abs(problem_.time_budget);
    return room_cost_ >= -slack_cost_ && room_time_ >= -slack_time_;
  }

  std::array<std::vector<Label>, 2> expanded(std::size_t i,
                                             const std::array<std::vector<Label>, 2>& before) {
    std::array<std::vector<Label>, 2> next;
    const double cost_left = problem_.budget - least_cost_[i + 1];
    const double time_left = problem_.time_budget - least_time_[i + 1];
    // The last item decides: sums in another order must not be found to fit by a hair.
    const bool last = i + 1 == problem_.items.size();
    const double slack_cost = last ? 0 : slack_cost_, slack_time = last ? 0 : slack_time_;
    for (std::uint32_t c = 0; c < problem_.items[i].size(); ++c) {
      const KnapsackChoice& choice = problem_.items[i][c];
      const std::size_t mine = choice.colour != 0 ? 1 : 0;
      std::uint32_t parent = 0;
      for (std::size_t colour = 0; colour < 2; ++colour) {
        const bool border = i > 0 && colour != mine;
        const double loss = border && i - 1 < problem_.borders.size() ? problem_.borders[i - 1] : 0;
        const double time =
            border && i - 1 < problem_.border_times.size() ? problem_.border_times[i - 1] : 0;
        for (const Label& label : before[colour]) {
          const Label made{label.cost + choice.cost, label.time + choice.time + time,
                           label.loss + choice.loss + loss, parent++, c};
          if (made.cost > cost_left + slack_cost || made.time > time_left + slack_time) continue;
          next[mine].push_back(made);
        }
      }
    }
    return next;
  }

  void thin(std::vector<Label>& labels, std::size_t i) const {
    // Two labels may stay in each cell.
    const auto side = static_cast<std::size_t>(
        std::max(1.0, std::floor(std::sqrt(static_cast<double>(most_) / 2))));
    const double cost_before = least_cost_[0] - least_cost_[i + 1];
    const double time_before = least_time_[0] - least_time_[i + 1];
    const auto share = [](double above, double room) {
      return room > 0 ? std::clamp(above / room, 0.0, 1.0) : 0.0;
    };
    constexpr std::uint32_t kNone = UINT32_MAX;
    std::vector<std::uint32_t> finest(side * side, kNone), smallest(side * side, kNone);
    std::vector<double> use(labels.size());
    for (std::uint32_t k = 0; k < labels.size(); ++k) {
      const double cost = share(labels[k].cost - cost_before, room_cost_);
      const double time = share(labels[k].time - time_before, room_time_);
      use[k] = cost + time;
      const auto at = [side](double part) {
        return std::min(side - 1, static_cast<std::size_t>(part * static_cast<double>(side)));
      };
      const std::size_t cell = at(cost) * side + at(time);
      std::uint32_t& fine = finest[cell];
      if (fine == kNone || labels[k].loss < labels[fine].loss) fine = k;
      std::uint32_t& small = smallest[cell];
      if (small == kNone || use[k] < use[small]) small = k;
    }
    std::vector<Label> kept;
    for (std::size_t cell = 0; cell < finest.size(); ++cell) {
      if (finest[cell] == kNone) continue;
      kept.push_back(labels[finest[cell]]);
      if (smallest[cell] != finest[cell]) kept.push_back(labels[smallest[cell]]);
    }
    labels = std::move(kept);
  }

  const KnapsackProblem& problem_;
  std::size_t most_;
  std::vector<double> least_cost_, least_time_;
  double room_cost_ = 0, room_time_ = 0, slack_cost_ = 0, slack_time_ = 0;
  std::vector<std::vector<LabelStep>> steps_;  // by item
};

}  // namespace

std::optional<std::vector<std::size_t>> solve_knapsack_by_labels(const KnapsackProblem& problem,
                                                                 std::size_t most_labels) {
  return Labels(problem, std::max<std::size_t>(most_labels, 2)).solve();
}

}  // namespace mcompress
