"use strict";
// A module of the installed package that is not for its users.

const path = require("node:path");

module.exports = (name) => require(path.join(path.dirname(require.resolve("keybroker")), name));
