"use strict";
// For a server that used to make its own LiteLLM key: the same calls, with keys from the broker.

const { inspect } = require("node:util");
const { Client } = require("./client");
const { mask } = require("./credential");

/** The two variables, as long as they are ours; `undo` brings back what was there before. */
class Exported {
	#before = {};
	#set = {};

	set(values) {
		for (const [name, value] of Object.entries(values)) {
			if (!(name in this.#before)) this.#before[name] = process.env[name];
			this.#put(name, value);
			this.#set[name] = value;
		}
	}

	undo() {
		for (const [name, value] of Object.entries(this.#set)) if (process.env[name] === value) this.#put(name, this.#before[name]);
		this.#before = {};
		this.#set = {};
	}

	#put(name, value) {
		if (value === undefined) delete process.env[name];
		else process.env[name] = value;
	}
}

/** What `getClient` gives: options of the OpenAI SDKs and nothing else, since they refuse or misread what they don't know. */
class ProvisionedClient {
	#key;

	constructor(credential, fetch) {
		this.#key = credential.apiKey;
		this.baseURL = credential.baseURL;
		this.fetch = fetch;
	}

	get apiKey() {
		return this.#key;
	}

	[inspect.custom](_depth, options, inspect) {
		return `ProvisionedClient ${inspect({ apiKey: mask(this.#key), ...this }, options)}`;
	}
}

function createProvisioner({ profile = "service", exportEnv = true, ...options } = {}) {
	const client = new Client(options);
	const fetch = client.fetch(profile);
	const exported = new Exported();
	const toClient = (credential) => new ProvisionedClient(credential, fetch);

	if (exportEnv)
		client.onCredential(profile, (credential) => {
			if (credential) return exported.set({ OPENAI_API_KEY: credential.apiKey, OPENAI_BASE_URL: credential.baseURL });
			exported.undo();
			// nobody need ask for it: the environment is read without a call of ours
			return void client.credential(profile).catch(() => {});
		});

	return {
		getClient: async () => toClient(await client.credential(profile)),
		refresh: async () => toClient(await client.refresh(profile)),
		close: () => client.close(),
	};
}

module.exports = { createProvisioner };
