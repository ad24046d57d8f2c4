/* What an acquire answers, and what else it needs to know of its surroundings. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct acquire;
struct audit_row;

/* Sends the granted lease and its key, if it may have them yet: the commit took its time. False: it
 * was answered with an error. Frees the acquire. */
bool acquire_reply(struct acquire *a);
/* The keyed tag of a static profile's key. */
void acquire_describe_static(const struct acquire *a, struct audit_row *row);
/* The user's name, or "" if the uid has none; in `buf`. */
const char *acquire_user_name(uid_t uid, char *buf, size_t size);
