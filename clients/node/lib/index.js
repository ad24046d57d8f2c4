"use strict";
// The package: one client for the whole process (or worker thread), made at its first use, and what makes others.

const { Client } = require("./client");
const { KeybrokerError } = require("./errors");
const { createProvisioner } = require("./provisioner");

let shared = null;

function client() {
	shared ??= new Client();
	return shared;
}

async function close() {
	const closing = shared;
	shared = null;
	await closing?.close();
}

module.exports = {
	apiKey: (profile) => client().apiKey(profile),
	baseURL: (profile) => client().baseURL(profile),
	fetch: (profile) => client().fetch(profile),
	credential: (profile) => client().credential(profile),
	refresh: (profile) => client().refresh(profile),
	onCredential: (profile, listener) => client().onCredential(profile, listener),
	close,
	createProvisioner,
	Client,
	KeybrokerError,
};
