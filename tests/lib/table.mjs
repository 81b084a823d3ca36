// Markdown tables, with columns of equal width.

/** The lines of a table. */
export function markdown(columns, lines) {
  const width = columns.map((column, n) => Math.max(...[column, ...lines.map((line) => line[n])].map((cell) => String(cell).length)));
  const format = (cells) => `| ${cells.map((cell, n) => String(cell).padEnd(width[n])).join(" | ")} |`;
  return [format(columns), `| ${width.map((count) => "-".repeat(count)).join(" | ")} |`, ...lines.map(format)];
}
