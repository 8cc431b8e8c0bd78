// REST reads, with the viewer's token if there is one, and refusals told apart:
// "offline" (no answer), "denied" (401, 403), "misplaced" (somebody else's answer), "busy" (all else, a proxy's 502 too).

export async function ask(url, token, method = "GET") {
  let response;
  try {
    response = await fetch(url, {
      method,
      cache: "no-store",
      headers: token ? { authorization: `Bearer ${token}` } : {},
      signal: AbortSignal.timeout(15_000),
    });
  } catch {
    throw { kind: "offline" };
  }
  const { status, headers } = response;
  const type = headers.get("content-type") ?? "nothing";
  const body = type.includes("json") ? await response.json().catch(() => null) : null;
  if (body?.success) return body.data;
  throw {
    kind: [401, 403].includes(status) ? "denied" : body?.code || status >= 500 ? "busy" : "misplaced",
    status,
    type: type.split(";")[0],
    message: body?.error,
    bearer: /bearer/i.test(headers.get("www-authenticate")),
    after: headers.get("retry-after") * 1000,
  };
}
