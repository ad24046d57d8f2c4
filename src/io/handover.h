/*
 * Passing the listening sockets between instances of one broker, so that they outlive each of them:
 * whoever is asked over a private socket answers with what it has, as descriptors (SCM_RIGHTS), and
 * closes. Only processes of our own uid are answered and believed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/macros.h"
#include "core/config.h"

/* The sockets of a broker, in the order in which they are passed: these two and then those of its
 * `listen` sections. An instance of an older version passes and takes the first two. */
enum handover_socket { HANDOVER_CLIENT, HANDOVER_ADMIN, HANDOVER_OWN };
#define HANDOVER_MAX (HANDOVER_OWN + LISTENS_MAX)

/* A socket's file, told from every other that has had its name. */
struct handover_place {
	dev_t dev;
	ino_t ino;
};

/* Answers on a connection that was accepted from the private socket, and closes it. A descriptor of
 * -1: there is none yet, and it is left out; without both of the first two nothing is passed. */
void handover_answer(int fd, const int sockets[], const struct handover_place places[], size_t n);

/* Connects (never blocks). The answer is there when the descriptor is readable. -errno, not logged:
 * nobody answers there. */
int handover_ask(const char *path) _must_check_;
/*
 * Takes the answer: listening sockets bound to `paths`, close-on-exec and non-blocking, the
 * caller's, and which files they were bound to; -1 where the answer had none, which is never one of
 * the first two. -ENOENT: it had none at all; -EAGAIN: not answered yet; -EADDRNOTAVAIL: the first
 * two are elsewhere; other -errno: no answer to believe.
 */
int handover_take(int fd, const char *const paths[], size_t n, int ret[],
		  struct handover_place ret_places[]) _must_check_;

/* Is it a listening stream socket that was bound to this path? */
bool handover_is(int fd, const char *path);
