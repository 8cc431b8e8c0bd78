// REST reads, with the viewer's token if there is one, and refusals told apart.

export class Refused extends Error {
  // kind: "offline" (no answer), "denied" (401, 403), "misplaced" (not our JSON), "busy" (429, 503), "failed"
  constructor(kind, message, detail = {}) {
    super(message);
    this.kind = kind;
    Object.assign(this, detail);
  }
}

export async function request(url, { token, method = "GET" } = {}) {
  let response;
  try {
    response = await fetch(url, {
      method,
      cache: "no-store",
      credentials: "same-origin",
      headers: token ? { accept: "application/json", authorization: `Bearer ${token}` } : { accept: "application/json" },
      signal: AbortSignal.timeout(15_000),
    });
  } catch (error) {
    throw new Refused("offline", String(error));
  }
  const type = response.headers.get("content-type") ?? "nothing";
  let body = null;
  if (type.includes("json")) body = await response.json().catch(() => null);
  const { status } = response;
  if (status === 401 || status === 403) {
    throw new Refused("denied", body?.error ?? "", {
      status,
      reason: response.headers.get("x-realtime-denied") ?? body?.code ?? "",
      bearer: /bearer/i.test(response.headers.get("www-authenticate") ?? ""),
    });
  }
  if (status === 429 || status === 503) {
    throw new Refused("busy", body?.error ?? "", { status, after: Number(response.headers.get("retry-after")) * 1000 });
  }
  if (!body || !("success" in body)) throw new Refused("misplaced", type.split(";")[0], { status });
  if (!body.success) throw new Refused(status === 404 ? "misplaced" : "failed", body.error ?? `status ${status}`, { status });
  return body.data;
}
