/**
 * Tables as text: read, written, their columns found by name.
 *
 * Knows nothing of models but the names they want.
 */

export class TableError extends Error {}

/** The fields of each line that is not empty; quoted fields may hold separators, quotes and line ends. */
function lines(text, separator) {
  const rows = [];
  let row = [], field = "", quoted = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (quoted) {
      if (char !== '"') field += char;
      else if (text[at + 1] === '"') field += text[++at];
      else quoted = false;
    } else if (char === '"' && field === "") quoted = true;
    else if (char === separator) row.push(field), (field = "");
    else if (char === "\n") row.push(field), rows.push(row), (row = []), (field = "");
    else if (char !== "\r") field += char;
  }
  if (field !== "" || row.length) row.push(field), rows.push(row);
  return rows.filter((each) => each.length > 1 || each[0].trim() !== "");
}

const LARGEST = 64; // MB

/** {names, rows}: names is null where the first line is numbers already; rows hold texts. TableError. */
export function parse(text) {
  if (text.length > LARGEST * 1e6) throw new TableError(`It has ${Math.round(text.length / 1e6)} MB; at most ${LARGEST} are taken.`);
  const first = text.replace(/^\uFEFF/, "").split("\n", 1)[0];
  const separator = [",", ";", "\t"].reduce((best, each) => (first.split(each).length > first.split(best).length ? each : best));
  const rows = lines(text.replace(/^\uFEFF/, ""), separator);
  if (!rows.length) throw new TableError("There is nothing in it.");
  const isNumber = (field) => field.trim() !== "" && Number.isFinite(Number(field));
  const names = rows[0].every(isNumber) ? null : rows.shift().map((name) => name.trim());
  if (!rows.length) throw new TableError("It has a heading, and no rows.");
  return { names, rows };
}

/** The place of each wanted column; TableError says which are missing. `wanted` are names. */
export function places(table, wanted) {
  if (table.names === null) {
    if (table.rows[0].length === wanted.length) return wanted.map((_, index) => index);
    throw new TableError(`It has no heading, and ${table.rows[0].length} columns; ${wanted.length} are wanted: ${wanted.join(", ")}.`);
  }
  const plain = (name) => name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "");
  const known = table.names.map(plain);
  const found = wanted.map((name) => (table.names.includes(name) ? table.names.indexOf(name) : known.indexOf(plain(name))));
  const missing = wanted.filter((_, index) => found[index] < 0);
  if (missing.length) {
    throw new TableError(`The column${missing.length > 1 ? "s" : ""} ${missing.join(", ")} ${missing.length > 1 ? "are" : "is"} not there; it has ${table.names.join(", ")}.`);
  }
  return found;
}

/** Columns by their places as rows of numbers; TableError names the first cell that is none. */
export function numbers(table, columns, names) {
  return table.rows.map((row, index) =>
    columns.map((place, which) => {
      const value = Number(row[place]);
      if ((row[place] ?? "").trim() === "" || !Number.isFinite(value)) {
        throw new TableError(`Row ${index + 1}, ${names[which]}: expected a number, got ${JSON.stringify(row[place] ?? "")}.`);
      }
      return value;
    }),
  );
}

/** Text of a table. */
export function write(names, rows) {
  const field = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const told = (value) => (typeof value === "number" ? (Number.isFinite(value) ? String(Number(value.toPrecision(9))) : "") : field(value));
  return [names.map(field).join(","), ...rows.map((row) => row.map(told).join(","))].join("\n") + "\n";
}
