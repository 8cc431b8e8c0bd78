// What the table shows, as a file: RFC 4180 without a byte order mark, times in UTC.

const COLUMNS = [
  "timestamp", "id", "method", "endpoint", "status_code", "success", "aborted", "latency_ms", "ttfb_ms", "provider_id",
  "model_id", "user_id", "tenant_id", "input_tokens", "output_tokens", "cached_tokens", "estimated_cost",
  "request_bytes", "response_bytes", "error_message",
];

// A text that a spreadsheet would take for a formula gets a quote in front; numbers are left alone.
function cell(value) {
  if (value === null || value === undefined) return "";
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(rows) {
  const line = (row) =>
    COLUMNS.map((name) => cell(name === "timestamp" ? new Date(row.timestamp_ms).toISOString() : row[name])).join(",");
  return [COLUMNS.join(","), ...rows.map(line), ""].join("\r\n");
}

export const json = (rows) => `${JSON.stringify(rows, null, 2)}\n`;

export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export async function copy(text) {
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
