// Numbers as people read them: at most three significant digits on tiles, the unit promoted after rounding, never a
// false 0 % or 100 %, and "–" for what is not known. No document here, so that Node can test it.

export const UNKNOWN = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);
const formats = new Map();

// `Intl` formatters are dear to make and cheap to use.
function digits(value, least, most = least) {
  const key = least * 10 + most;
  let format = formats.get(key);
  if (!format) {
    format = new Intl.NumberFormat("en-US", { minimumFractionDigits: least, maximumFractionDigits: most });
    formats.set(key, format);
  }
  return format.format(value);
}

// Three significant digits of a value below 999.5; rounding happens before the number of decimals is chosen.
function three(value) {
  if (value < 9.995) return value.toFixed(2);
  if (value < 99.95) return value.toFixed(1);
  return value.toFixed(0);
}

function promote(value, base, units, separator) {
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= base;
    unit += 1;
  }
  return three(value) + separator + units[unit];
}

const pad = (value) => String(value).padStart(2, "0");

export function duration(ms) {
  if (!known(ms)) return UNKNOWN;
  if (ms === 0) return "0 ms";
  if (ms < 0.0005) return "<1 µs";
  if (ms < 0.9995) return `${Math.round(ms * 1000)} µs`;
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${three(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${pad(seconds % 60)}s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 2880) return `${Math.floor(minutes / 60)}h ${pad(minutes % 60)}m`;
  return `${Math.floor(minutes / 1440)}d ${Math.floor((minutes % 1440) / 60)}h`;
}

export function percent(rate) {
  if (!known(rate)) return UNKNOWN;
  if (rate === 0) return "0%";
  if (rate === 1) return "100%";
  if (rate < 0.0001) return "<0.01%";
  if (rate < 0.009995) return `${(rate * 100).toFixed(2)}%`;
  if (rate > 0.999) return ">99.9%";
  return `${(rate * 100).toFixed(1)}%`;
}

export const count = (value) => (known(value) ? digits(Math.round(value), 0) : UNKNOWN);

export function short(value) {
  if (!known(value)) return UNKNOWN;
  return value < 9999.5 ? digits(Math.round(value), 0) : promote(value / 1000, 1000, ["k", "M", "B", "T"], "");
}

export function rate(value) {
  if (!known(value)) return UNKNOWN;
  if (value === 0) return "0";
  if (value < 0.05) return "<0.1";
  // A quarter is 0.3 here, as on paper: `toFixed` alone would round the binary fraction.
  if (value < 9.95) return (Math.round(value * 10 + 1e-9) / 10).toFixed(1);
  return short(value);
}

const symbols = new Map([["USD", "$"]]);

function symbol(currency) {
  if (!symbols.has(currency)) {
    let text = `${currency} `;
    try {
      const parts = new Intl.NumberFormat("en-US", { style: "currency", currency }).formatToParts(0);
      text = parts.find((part) => part.type === "currency").value;
      if (/\w$/.test(text)) text += " ";
    } catch {
      // Not an ISO code: the host's own word stands before the number.
    }
    symbols.set(currency, text);
  }
  return symbols.get(currency);
}

export function money(value, currency = "USD") {
  if (!known(value)) return UNKNOWN;
  const sign = symbol(currency);
  if (value > 0 && value < 0.01) return `<${sign}0.01`;
  if (value < 9999.995) return sign + digits(value, 2);
  return sign + promote(value / 1000, 1000, ["k", "M", "B", "T"], "");
}

export function price(value, currency = "USD") {
  if (!known(value)) return UNKNOWN;
  const sign = symbol(currency);
  if (value > 0 && value < 0.0000005) return `<${sign}0.000001`;
  return sign + digits(value, 2, value < 0.001 ? 6 : 4);
}

export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  if (value < 999.5) return `${Math.round(value)} B`;
  return promote(value / 1024, 1024, ["KiB", "MiB", "GiB", "TiB"], " ");
}

export function speed(tokensPerSecond) {
  if (!known(tokensPerSecond)) return UNKNOWN;
  return tokensPerSecond < 99.95
    ? `${tokensPerSecond.toPrecision(3)} tok/s`
    : `${short(tokensPerSecond)} tok/s`;
}

export function age(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 1.5) return "now";
  if (seconds < 59.5) return `${Math.round(seconds)}s ago`;
  if (seconds < 3570) return `${Math.round(seconds / 60)}m ago`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)}h ago`;
  return `${Math.round(seconds / 86_400)}d ago`;
}

// A range in words: "5 min", "1 h".
export const span = (seconds) => (seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`);

const clocks = {
  seconds: new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" }),
  minutes: new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" }),
};

export const clock = (ms) => (known(ms) ? clocks.seconds.format(ms) : UNKNOWN);
export const hour = (ms) => (known(ms) ? clocks.minutes.format(ms) : UNKNOWN);
export const iso = (ms) => (known(ms) ? new Date(ms).toISOString() : "");

// Axis labels are not tile numbers: 0 is "0", and zeros at the end say nothing.
export function axis(format) {
  return (value) => (value === 0 ? "0" : format(value).replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, ""));
}
