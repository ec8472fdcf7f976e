/**
 * Tables as text: read, written, their columns found by name, as the trainer reads them.
 *
 * Knows nothing of models but the names they want, and how gaps were filled in their training.
 */

export class TableError extends Error {}

const LARGEST = 64; // MB
const BINARY = [
  ["PK", "an Excel workbook or another ZIP archive: save the sheet as CSV"],
  ["\xd0\xcf", "an old Excel workbook: save the sheet as CSV"],
  ["\x1f\x8b", "packed with gzip: unpack it"],
  ["PAR1", "a Parquet file: write it as CSV"],
];
const MISSING = new Set(["", "na", "n/a", "#n/a", "nan", "null", "<na>", "-", "--", "?", "none", "nat", "missing", "-nan"]);
const DATE = /^\d{1,4}[-/.]\d{1,2}([-/.]|$)/;

/** What a file says, in UTF-8, UTF-16 or Latin-1; TableError where it is no text. */
export async function textOf(file) {
  if (file.size > 2e6 * LARGEST) throw new TableError(`It has ${Math.round(file.size / 1e6)} MB; at most ${LARGEST} are taken.`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const head = String.fromCharCode(...bytes.subarray(0, 4096));
  if (head.startsWith("\xff\xfe")) return new TextDecoder("utf-16le").decode(bytes);
  if (head.startsWith("\xfe\xff")) return new TextDecoder("utf-16be").decode(bytes);
  const [, kind] = BINARY.find(([beginning]) => head.startsWith(beginning)) ?? [];
  if (kind) throw new TableError(`It is ${kind}.`);
  if (/[\0-\x08\x0e-\x1a\x1c-\x1f]/.test(head)) throw new TableError("It is no text: export the table as CSV.");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("latin1").decode(bytes);
  }
}

/** The fields of each line, {row: its number, fields}, that is not empty; quoted fields may hold separators, quotes and line ends. */
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
  return rows.map((fields, index) => ({ row: index + 1, fields })).filter(({ fields }) => fields.some((each) => each.trim() !== ""));
}

/**
 * {names, rows, row, comma}: names is null where the first line is numbers already; rows hold texts; row(index): where one stands, as
 * a spreadsheet counts; comma: whether decimals stand behind one. A row of units below the names is passed over. TableError.
 */
export function parse(text) {
  if (text.length > LARGEST * 1e6) throw new TableError(`It has ${Math.round(text.length / 1e6)} MB; at most ${LARGEST} are taken.`);
  const first = text.replace(/^\uFEFF/, "").split("\n", 1)[0];
  const separator = [",", ";", "\t", "|"].reduce((best, each) => (first.split(each).length > first.split(best).length ? each : best));
  const found = lines(text.replace(/^\uFEFF/, ""), separator), comma = separator !== ",";
  if (!found.length) throw new TableError("There is nothing in it.");
  const isNumber = (field) => Number.isFinite(numberOf(field, comma));
  const values = found[0].fields.filter((field) => !isMissing(field));
  const names = values.length && values.every(isNumber) ? null : found.shift().fields.map((name) => name.trim());
  const isUnit = (field) => field.trim() === "" || !(isNumber(field) || isMissing(field) || DATE.test(field.trim()));
  if (names && found.length > 1 && found[0].fields.every(isUnit) && found[1].fields.some(isNumber)) found.shift();
  if (!found.length) throw new TableError("It has a heading, and no rows.");
  return { names, rows: found.map(({ fields }) => fields), row: (index) => found[index].row, comma };
}

/** NaN where it is none. */
function numberOf(field, comma) {
  const text = field.trim().replace("\u2212", "-");
  if (text === "") return NaN;
  return Number(comma && /^[+-]?\d*,\d*(e[+-]?\d+)?$/i.test(text) ? text.replace(",", ".") : text);
}

function isMissing(field) {
  return MISSING.has(field.trim().toLowerCase());
}

/** A name without its unit in brackets; brackets that hold a number are part of it. */
function bare(name) {
  const [, before, round, square] = name.match(/^(.*\S)\s*(?:\(([^()]*)\)|\[([^[\]]*)\])$/) ?? [];
  return before === undefined || /^[\d\s.,;:+]+$/.test(round ?? square) ? name : before;
}

/** The place of each wanted column; TableError says which are missing. `wanted` are names. */
export function places(table, wanted) {
  if (table.names === null) {
    if (table.rows[0].length === wanted.length) return wanted.map((_, index) => index);
    throw new TableError(`It has no heading, and ${table.rows[0].length} columns; ${wanted.length} are wanted: ${wanted.join(", ")}.`);
  }
  const plain = (name) => name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "");
  const spellings = [(name) => name, bare, plain, (name) => plain(bare(name))];
  const known = spellings.map((spelled) => table.names.map(spelled));
  const place = (name) => known.map((names, index) => names.indexOf(spellings[index](name))).find((found) => found >= 0) ?? -1;
  const found = wanted.map(place);
  const missing = wanted.filter((_, index) => found[index] < 0);
  if (missing.length) {
    throw new TableError(`The column${missing.length > 1 ? "s" : ""} ${missing.join(", ")} ${missing.length > 1 ? "are" : "is"} not there; it has ${table.names.join(", ")}.`);
  }
  return found;
}

/** Columns by their places as rows of numbers, NaN where there is none; TableError names the first cell that is something else. */
export function numbers(table, columns, names, reading) {
  return table.rows.map((row, index) =>
    columns.map((place, which) => {
      const field = row[place] ?? "", value = numberOf(field, table.comma);
      if (isMissing(field) || reading?.na.includes(value)) return NaN;
      if (!Number.isFinite(value)) throw new TableError(`Row ${table.row(index)}, ${names[which]}: expected a number, got ${JSON.stringify(field)}.`);
      return value;
    }),
  );
}

/**
 * Such rows without gaps, {rows, left: how many at the beginning are left out, note}: filled with the value before, as in the training
 * of a model that was told to. TableError where another one's rows have a gap.
 */
export function whole(table, rows, names, reading) {
  let last = null, left = 0, filled = 0;
  const kept = [];
  rows.forEach((row, index) => {
    const gap = row.findIndex(Number.isNaN);
    if (gap >= 0 && reading?.missing !== "hold") {
      throw new TableError(`Row ${table.row(index)}, ${names[gap]}: there is no number. Fill it in, or leave the row out: this is done here only for models that were trained with --missing hold.`);
    }
    const whole = row.map((value, place) => (Number.isNaN(value) ? (last?.[place] ?? NaN) : value));
    filled += row.filter((value, place) => Number.isNaN(value) && !Number.isNaN(whole[place])).length;
    last = whole;
    if (whole.some(Number.isNaN)) left++;
    else kept.push(whole);
  });
  if (!kept.length) throw new TableError("In no row all columns have had a value.");
  const told = [
    filled && `${cells(filled, "empty cell")} filled with the value before, as in training`,
    left && `${cells(left, "row")} left out at the beginning, before all columns had a value`,
  ].filter(Boolean);
  return { rows: kept, left, note: told.length ? ` ${told.join("; ")}.` : "" };
}

function cells(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? " is" : "s are"}`;
}

/** Text of a table. */
export function write(names, rows) {
  const field = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const told = (value) => (typeof value === "number" ? (Number.isFinite(value) ? String(Number(value.toPrecision(9))) : "") : field(value));
  return [names.map(field).join(","), ...rows.map((row) => row.map(told).join(","))].join("\n") + "\n";
}
