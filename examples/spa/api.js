// Sparekey's JSON API: one function a call. Each resolves to the answer's `response`,
// or throws a Refusal with the code that the words in codes.js are for.

import { API, CLIENT } from "/config.js";

export class Refusal extends Error {
  constructor(code, response, retryAfter) {
    super(code);
    this.code = code;
    this.fields = response.field_errors ?? {};
    this.retryAfter = retryAfter;
  }
}

async function call(path, { body, token } = {}) {
  const headers = { Accept: "application/json", "Accept-Language": document.documentElement.lang };
  if (body) headers["Content-Type"] = "application/json";
  if (token) headers["Authentication-Token"] = token;
  let answer;
  try {
    answer = await fetch(API + path, {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      credentials: "omit", // another site than Sparekey: there is no cookie to send
    });
  } catch {
    throw new Refusal("unreachable", {});
  }
  const { response } = await answer.json();
  if (!answer.ok) throw new Refusal(response.error_code, response, answer.headers.get("Retry-After"));
  return response;
}

export const whatToKnow = () => call("/reset");
export const askForLink = (identity, request_id) => call("/reset", { body: { identity, client: CLIENT, request_id } });
export const enterCode = (request_id, code) => call("/reset/code", { body: { request_id, code } });
export const lookAtLink = (token) => call(`/reset/${encodeURIComponent(token)}`);
export const setPassword = (token, password) => call(`/reset/${encodeURIComponent(token)}`, { body: { password } });
export const whoAmI = (token) => call("/me", { token });

export async function signIn(identity, password) {
  const response = await call("/login?include_auth_token", { body: { identity, password } });
  return response.user.authentication_token;
}
