/* What the parts of the driver share: one request of the scenario, and what came of it. */
#pragma once

#include <jansson.h>
#include <keybroker.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

struct ask {
	json_t *request, *answer;
	struct keybroker **client; /* of the client object that it names */
	const char *profile;
};

/* --- driver.c --- */

void driver_die(const char *what) __attribute__((noreturn));
/* (Re)opens the client object with the options of the request. */
void driver_open(struct keybroker **client, const json_t *options);
/* What the library has logged so far; borrowed. */
const json_t *driver_lines(void);

/* --- asks.c --- */

/* What a request asks for; NULL: nothing that is known. */
typedef void ask_fn(struct ask *a);
ask_fn *ask_find(const char *name);
ask_fn ask_open;

void ask_set(struct ask *a, const char *name, json_t *value);
void ask_fail(struct ask *a, const struct keybroker_error *e);
/* The profile's credential; NULL: the answer is the error. */
struct keybroker_lease *ask_lease(struct ask *a);
void ask_hash(const char *key, char ret[9]);

/* --- calls.c --- */

ask_fn ask_many, ask_call, ask_call_other;
