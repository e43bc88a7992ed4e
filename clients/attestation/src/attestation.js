/**
 * Runs YouTube's attestation (BotGuard) for `po_tokens.py`, in a Deno without any permission: it
 * reaches no network, no file and no environment. Each message is a line of JSON.
 *
 *     {interpreter, program, global_name, user_agent}   -> {response}   for Google's server
 *     {integrity_token}                                 -> {}           which that server gave
 *     {binding}                                         -> {token}      any number of times
 *
 * A failure is {error}, and the end. The interpreter is a script of Google's, which runs in the same
 * realm. So whoever reads the answers must expect anything.
 */
import { BotGuardClient } from "bgutils-js/botguard";
import { WebPoMinter } from "bgutils-js/webpo";
import { JSDOM } from "jsdom";

const PAGE = '<!DOCTYPE html><html lang="en"><head><title></title></head><body></body></html>';

/** Makes the realm look like YouTube's page, as the example of bgutils-js does. */
function openPage(userAgent) {
  const { window } = new JSDOM(PAGE, {
    url: "https://www.youtube.com/",
    referrer: "https://www.youtube.com/",
    pretendToBeVisual: true,
    resources: { userAgent },
  });
  const { document, location, origin } = window;
  Object.assign(globalThis, { window, document, location, origin });
  // Deno's own navigator says that it is Deno.
  Object.defineProperty(globalThis, "navigator", { value: window.navigator, configurable: true });
}

async function* messages() {
  let text = "";
  for await (const part of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (text + part).split("\n");
    text = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

function answer(message) {
  const bytes = new TextEncoder().encode(`${JSON.stringify(message)}\n`);
  for (let sent = 0; sent < bytes.length;) sent += Deno.stdout.writeSync(bytes.subarray(sent));
}

async function attest(message, signals) {
  openPage(message.user_agent);
  new Function(message.interpreter)();
  const client = await BotGuardClient.create({
    program: message.program,
    globalName: message.global_name,
    globalObject: globalThis,
  });
  return client.snapshot({ webPoSignalOutput: signals });
}

// The interpreter's words are not answers.
globalThis.console = new Proxy({}, { get: () => () => undefined });

const signals = [];
let minter;
try {
  for await (const message of messages()) {
    if ("program" in message) {
      answer({ response: await attest(message, signals) });
    } else if ("integrity_token" in message) {
      minter = await WebPoMinter.create({ integrityToken: message.integrity_token }, signals);
      answer({});
    } else {
      answer({ token: await minter.mintAsWebsafeString(message.binding) });
    }
  }
} catch (error) {
  answer({ error: String(error) });
}
Deno.exit(0);
