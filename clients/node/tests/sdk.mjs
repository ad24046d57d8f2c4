// SECONDS WORKERS: chat completions by the unmodified OpenAI SDK as the README shows it (clients/README.md, "The SDK program").
import { createHash } from "node:crypto";
import * as broker from "keybroker";
import OpenAI from "openai";

const [seconds, workers] = process.argv.slice(2).map(Number);
const model = process.env.KEYBROKER_TEST_MODEL ?? "gpt-5";
const keys = new Set();
const errors = [];
let calls = 0;
let failed = 0;

// looks at the key of each request on its way, and changes nothing
const { fetch } = globalThis;
globalThis.fetch = (input, init) => {
	keys.add(createHash("sha256").update(new Headers(init?.headers).get("authorization") ?? "").digest("hex"));
	return fetch(input, init);
};

const openai = new OpenAI({
	apiKey: broker.apiKey("service"),
	baseURL: await broker.baseURL("service"),
	fetch: broker.fetch("service"),
	maxRetries: 0, // a call that fails counts
});

async function work(until) {
	while (Date.now() < until) {
		calls++;
		try {
			await openai.chat.completions.create({ model, messages: [{ role: "user", content: "hello" }] });
		} catch (error) {
			failed++;
			if (errors.length < 5) errors.push(String(error));
		}
	}
}

const until = Date.now() + seconds * 1000;
await Promise.all(Array.from({ length: workers }, () => work(until)));
console.log(JSON.stringify({ calls, failed, keys: keys.size, errors }));
