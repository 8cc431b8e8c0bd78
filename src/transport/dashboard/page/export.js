// What the table shows, as a file: RFC 4180 without a byte order mark, times in UTC.

const FILE_COLUMNS = [
  "timestamp", "id", "method", "endpoint", "status_code", "success", "aborted", "latency_ms", "ttfb_ms", "provider_id",
  "model_id", "user_id", "tenant_id", "input_tokens", "output_tokens", "cached_tokens", "estimated_cost",
  "request_bytes", "response_bytes", "error_message",
];

export const iso = (ms) => new Date(ms).toISOString();

// A text that a spreadsheet would take for a formula gets a quote in front; numbers are left alone.
function cell(value) {
  const text = typeof value === "string" ? value.replace(/^[=+\-@\t\r]/, "'$&") : String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export const toCsv = (rows) =>
  [FILE_COLUMNS, ...rows.map((row) => FILE_COLUMNS.map((name) => (name === "timestamp" ? iso(row.timestamp_ms) : row[name])))]
    .map((line) => `${line.map(cell).join()}\r\n`)
    .join("");

export const toJson = (value) => `${JSON.stringify(value, null, 2)}\n`;

export function download(extension, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = `requests-${iso(Date.now()).slice(0, 19).replaceAll(":", "-")}.${extension}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Outside a secure context there is only the old way.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
