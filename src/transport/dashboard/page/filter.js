// The filter box: words are combined with AND, `-` in front negates.
//   status:5xx  status:429  status:error  status:aborted  >500ms  <1.5s
//   route:chat  model:gpt  user:u-1  provider:  tenant:  method:  id:        part of the value
//   route:"/v1/models"                                                     the whole value

const FIELDS = {
  route: (row) => row.endpoint,
  model: (row) => row.model_id,
  user: (row) => row.user_id,
  provider: (row) => row.provider_id,
  tenant: (row) => row.tenant_id,
  method: (row) => row.method,
  id: (row) => row.id,
};

const WORD = /-?(?:[a-z]+:)?(?:"[^"]*"?|[^\s"]+)/gi;

export const words = (text) => text.match(WORD) ?? [];

// What a click on a table's row stands for. Rows without the attribute carry the key `(none)`.
export const exact = (field, value) => `${field}:"${value.replaceAll('"', "")}"`;

function status(value) {
  if (value === "aborted") return (row) => row.aborted === true;
  if (value === "error") return (row) => row.success === false;
  if (/^[1-5]xx$/.test(value)) return (row) => Math.floor((row.status_code ?? 0) / 100) === Number(value[0]);
  return (row) => String(row.status_code ?? "").startsWith(value);
}

function compile(word) {
  const [, minus, field, rest] = /^(-?)(?:([a-z]+):)?(.*)$/is.exec(word);
  const negated = minus === "-" && (field || rest);
  let test;
  const quoted = rest.startsWith('"');
  const value = quoted ? rest.replaceAll('"', "") : rest.toLowerCase();
  const limit = /^([<>])(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(value);
  if (limit && !field) {
    const ms = Number(limit[2]) * { ms: 1, s: 1000, m: 60_000 }[limit[3] ?? "ms"];
    test = limit[1] === ">" ? (row) => row.latency_ms > ms : (row) => row.latency_ms < ms;
  } else if (field?.toLowerCase() === "status") {
    test = status(value.toLowerCase());
  } else if (field && FIELDS[field.toLowerCase()]) {
    const read = FIELDS[field.toLowerCase()];
    test = quoted
      ? (row) => (read(row) ?? "(none)") === value
      : (row) => (read(row) ?? "(none)").toLowerCase().includes(value);
  } else {
    const text = (field ? `${field}:${value}` : value).toLowerCase();
    test = (row) =>
      `${row.method} ${row.endpoint} ${row.status_code} ${row.provider_id} ${row.model_id} ${row.user_id} ${row.tenant_id} ${row.id} ${row.error_message ?? ""}`
        .toLowerCase()
        .includes(text);
  }
  return negated ? (row) => !test(row) : test;
}

// A test for rows; `interval` is [from, to) in unix seconds, from a drag on the first chart.
export function matcher(text, interval = null) {
  const tests = words(text).map(compile);
  if (interval) {
    const [from, to] = interval;
    tests.push((row) => row.timestamp_ms >= from * 1000 && row.timestamp_ms < to * 1000);
  }
  return (row) => tests.every((test) => test(row));
}

// Puts a word in, or takes it out if it is there.
export function toggle(text, word) {
  const all = words(text);
  return (all.includes(word) ? all.filter((other) => other !== word) : [...all, word]).join(" ");
}
