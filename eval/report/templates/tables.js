// Sorts, searches and pages every table. Its values come as JSON, a list a column, or are read from its cells.
const collator = new Intl.Collator("en", { numeric: true });
const count = (number) => number.toLocaleString("en");

const shown = ({ digits, scale }, value) => {
  if (value === null) return "\u2013";
  if (digits === null) return String(value);
  return (value * scale).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
};

const cell = (column, value, first) => {
  const made = document.createElement(first ? "th" : "td");
  made.className = `${column.digits === null ? "text" : "number"}${column.screen_only ? " screen-only" : ""}`;
  if (first) made.scope = "row";
  if (column.digits === null) made.dir = "auto";
  else if (value !== null) made.dataset.value = value;
  made.textContent = shown(column, value);
  return made;
};

const fromData = ({ columns, values }) => ({
  values,
  length: values[0].length,
  row: (number) => {
    const made = document.createElement("tr");
    made.append(...columns.map((column, place) => cell(column, values[place][number], place === 0)));
    return made;
  },
});

const fromRows = (rows, places) => {
  const value = ({ dataset, textContent }) => {
    if (dataset.value !== undefined) return dataset.value === "" ? null : Number(dataset.value);
    return textContent.trim();
  };
  const values = Array.from({ length: places }, (_, place) => rows.map((row) => value(row.cells[place])));
  return { values, length: rows.length, row: (number) => rows[number] };
};

const order = (values, down) => (one, other) => {
  const [a, b] = [values[one], values[other]];
  if (a === null || b === null) return (a === null) - (b === null) || one - other; // what is missing comes last
  const found = typeof a === "number" ? a - b : collator.compare(a, b);
  return (down ? -found : found) || one - other;
};

for (const box of document.querySelectorAll(".table")) {
  const json = box.querySelector("script[type='application/json']");
  const body = box.querySelector("tbody");
  const heads = [...box.querySelectorAll("thead th")];
  const data = json && JSON.parse(json.textContent);
  const table = data ? fromData(data) : fromRows([...body.rows], heads.length);
  const all = Array.from({ length: table.length }, (_, number) => number);
  const size = data ? data.page : table.length;
  let [found, page, place, down] = [all, 0, null, false];

  const show = () => {
    body.replaceChildren(...found.slice(page * size, (page + 1) * size).map(table.row));
    if (!data) return;
    const last = Math.min(found.length, (page + 1) * size);
    const plural = found.length === 1 ? data.unit : `${data.unit}s`;
    const range = found.length > size ? `${count(page * size + 1)} to ${count(last)} of ` : "";
    const of = found.length < table.length ? ` of ${count(table.length)}` : "";
    box.querySelector(".range").textContent = `${range}${count(found.length)} ${plural}${of && ` found${of}`}`;
    box.querySelector(".previous").disabled = page === 0;
    box.querySelector(".next").disabled = last === found.length;
    box.querySelector(".turn").hidden = found.length <= size;
  };
  const arrange = () => {
    if (place !== null) found = [...found].sort(order(table.values[place], down));
    page = 0;
    show();
  };

  heads.forEach((head, number) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      down = place === number && !down;
      place = number;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      arrange();
    });
  });
  if (!data) continue;

  const texts = data.columns.flatMap(({ digits }, number) => (digits === null ? [table.values[number]] : []));
  const search = box.querySelector("input");
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    found = all.filter((number) => texts.some((values) => String(values[number] ?? "").toLowerCase().includes(wanted)));
    arrange();
  });
  box.querySelector(".tools").hidden = table.length <= size;
  box.querySelector(".previous").addEventListener("click", () => { page -= 1; show(); });
  box.querySelector(".next").addEventListener("click", () => { page += 1; show(); });
  show();
}
