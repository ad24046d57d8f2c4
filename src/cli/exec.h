/* What `keybroker exec` decides about the environment that it hands on. */
#pragma once

#include "cli/url.h"

struct cli;
struct keybroker_lease;

/* OPENAI_BASE_URL of the command's own environment against the broker's. */
enum exec_base {
	EXEC_BASE_BROKERS, /* there is none of its own: the broker's is set */
	EXEC_BASE_SAME,	   /* its own stays; the same server */
	EXEC_BASE_OTHER,   /* its own stays; another server, worth a warning */
	EXEC_BASE_OPENAI,  /* it names api.openai.com, where a LiteLLM key cannot work */
	EXEC_BASE_NO_URL,  /* it is no http or https URL */
	EXEC_BASE_CLEAR,   /* plain http to another host: the key would cross a network in clear */
};

/* `own` may be NULL or empty; `mode` is the profile's. */
enum exec_base exec_judge_base(const char *own, const char *brokers, const char *mode);
/* host:port for a message: a URL itself may hold a password. */
void exec_name_server(const char *url, char ret[URL_HOST_SIZE + 16]);
/* Sets OPENAI_BASE_URL where it is to be set; else an exit code, once it has said why. */
int exec_set_base(const struct cli *c, const struct keybroker_lease *l);
/* Takes the variables that no program but a LiteLLM proxy should have out of the environment, bytes
 * and all, and names in `ret` those that were set ("" if none). */
void exec_take_out_master(char *ret, size_t size);
