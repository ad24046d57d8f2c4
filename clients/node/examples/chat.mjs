// npm install keybroker openai && node chat.mjs MODEL [QUESTION]
import * as broker from "keybroker";
import OpenAI from "openai";

const [model, question = "Say hello in one word."] = process.argv.slice(2);
if (!model) {
	console.error("usage: node chat.mjs MODEL [QUESTION]");
	process.exit(64);
}

const openai = new OpenAI({
	apiKey: broker.apiKey("service"),
	baseURL: await broker.baseURL("service"),
	fetch: broker.fetch("service"),
});

const completion = await openai.chat.completions.create({ model, messages: [{ role: "user", content: question }] });
console.log(completion.choices[0].message.content);
await broker.close();
