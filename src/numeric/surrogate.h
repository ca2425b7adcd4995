// A model of an expensive function, for Bayesian optimisation: what to try next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace mcompress {

// Bayesian linear regression y = w x + e with independent Gaussian priors for the weights and
// Gaussian noise (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, sec. 2.1):
// a Gaussian process whose kernel is the inner product.
class LinearSurrogate {
 public:
  // Mean and variance (above 0) of each weight before anything was seen, and variance of the noise
  // (above 0).
  LinearSurrogate(std::vector<double> prior_mean, std::vector<double> prior_variance,
                  double noise_variance);
  ~LinearSurrogate();
  LinearSurrogate(LinearSurrogate&&) noexcept;
  LinearSurrogate& operator=(LinearSurrogate&&) noexcept;

  // x has as many numbers as the prior.
  void observe(std::span<const double> x, double y);
  struct Belief {
    double mean = 0;
    double deviation = 0;  // of w x, without the noise
  };
  Belief predict(std::span<const double> x) const;
  // The weights as they are believed to be.
  std::vector<double> weights() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// By how much a Gaussian variable is expected to fall below `best`, where it does: the expected
// improvement of a minimisation (Jones, Schonlau, Welch, 1998).
double expected_improvement(double mean, double deviation, double best);

}  // namespace mcompress
