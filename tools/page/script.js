// Sorting and filtering of tables. The page says the same without it.
"use strict";
(function () {
  function cellValue(row, column) {
    const cell = row.cells[column];
    const raw = cell.getAttribute("data-value");
    return raw === null ? cell.textContent : Number(raw);
  }
  function sortBy(table, column, head) {
    const body = table.tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    const order = down ? -1 : 1;
    const rows = Array.from(body.rows);
    rows.sort(function (a, b) {
      const x = cellValue(a, column), y = cellValue(b, column);
      if (typeof x === "number") return order * (x - y);
      return order * x.localeCompare(y);
    });
    rows.forEach(function (row) { body.appendChild(row); });
    Array.from(table.tHead.rows[0].cells).forEach(function (other) { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  }
  document.querySelectorAll("table.sortable").forEach(function (table) {
    Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.title = "sort by " + head.textContent;
      head.textContent = "";
      head.appendChild(button);
      button.addEventListener("click", function () { sortBy(table, column, head); });
    });
  });
  document.querySelectorAll("table.filterable").forEach(function (table) {
    const box = document.createElement("div");
    box.className = "filter";
    const label = document.createElement("label");
    label.textContent = "Show rows with ";
    const input = document.createElement("input");
    input.type = "search";
    label.appendChild(input);
    const chooser = document.createElement("label");
    chooser.textContent = "that were ";
    const select = document.createElement("select");
    ["all", "applied", "left"].forEach(function (name) {
      const option = document.createElement("option");
      option.value = option.textContent = name;
      select.appendChild(option);
    });
    chooser.appendChild(select);
    const count = document.createElement("span");
    count.setAttribute("role", "status");
    box.appendChild(label);
    box.appendChild(chooser);
    box.appendChild(count);
    table.parentNode.parentNode.insertBefore(box, table.parentNode);
    function apply() {
      const wanted = input.value.toLowerCase();
      let shown = 0;
      Array.from(table.tBodies[0].rows).forEach(function (row) {
        const state = row.getAttribute("data-state");
        const fits = select.value === "all" || select.value === state;
        row.hidden = !(fits ? row.textContent.toLowerCase().includes(wanted) : false);
        if (!row.hidden) shown += 1;
      });
      count.textContent = shown + " of " + table.tBodies[0].rows.length + " rows";
    }
    input.addEventListener("input", apply);
    select.addEventListener("change", apply);
    apply();
  });
}());
