/** What each call carries: the headers of the caller, and the token. */

const TOKEN = /^[\x21-\x7e]+$/;
const LOCAL_HOSTS = /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/**
 * Return the headers of every call to `baseUrl`: `headers`, and `token` as `authorization`.
 *
 * `plaintext` allows to send the token to another machine although the connection is not encrypted.
 * Throws TypeError if it is not allowed, or if the token cannot be sent.
 */
export function callHeaders(
  baseUrl: string,
  headers: Readonly<Record<string, string>>,
  token: string,
  plaintext: boolean,
): Record<string, string> {
  if (!token) return { ...headers };
  if (!TOKEN.test(token)) {
    throw new TypeError("A token has only visible ASCII characters, and no spaces.");
  }
  if (Object.keys(headers).some((name) => name.toLowerCase() === "authorization")) {
    throw new TypeError("Give either a token or the header `authorization`, not both.");
  }
  const { protocol, hostname, host } = new URL(baseUrl);
  if (protocol !== "https:" && !LOCAL_HOSTS.test(hostname) && !plaintext) {
    throw new TypeError(
      `The token was not sent, because the connection to ${host} is not encrypted. Use https://; ` +
        "or, if the network is trusted, `allowPlaintextToken`.",
    );
  }
  return { ...headers, authorization: `Bearer ${token}` };
}
