/*
 * The handles of this process, for fork(): it waits until no thread is inside one, so that the
 * child, where those threads don't exist, finds each of them whole and unlocked.
 */
#include "clients/c/fork.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/fd.h"
#include "clients/c/handle.h"

static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;
static struct keybroker *fork_handles;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void fork_prepare(void)
{
	(void)pthread_mutex_lock(&fork_lock);
	for (struct keybroker *k = fork_handles; k; k = k->next_open)
		(void)pthread_mutex_lock(&k->lock);
}

static void fork_parent(void)
{
	for (struct keybroker *k = fork_handles; k; k = k->next_open)
		(void)pthread_mutex_unlock(&k->lock);
	(void)pthread_mutex_unlock(&fork_lock);
}

static void fork_child(void)
{
	for (struct keybroker *k = fork_handles; k; k = k->next_open) {
		k->inherited = true;
		fd_close(&k->wire.fd); /* it would keep the parent's connection open */
		/* those that wait by it are not here */
		handle_init_moved(k);
		(void)pthread_mutex_unlock(&k->lock);
	}
	(void)pthread_mutex_unlock(&fork_lock);
}

static void fork_register(void)
{
	/* without memory for it a child has what it has without this library: the pid tells nobody
	 */
	(void)pthread_atfork(fork_prepare, fork_parent, fork_child);
}

void fork_note(struct keybroker *k)
{
	(void)pthread_once(&fork_once, fork_register);
	(void)pthread_mutex_lock(&fork_lock);
	k->next_open = fork_handles;
	fork_handles = k;
	(void)pthread_mutex_unlock(&fork_lock);
}

void fork_forget(struct keybroker *k)
{
	struct keybroker **at = &fork_handles;

	(void)pthread_mutex_lock(&fork_lock);
	while (*at && *at != k)
		at = &(*at)->next_open;
	if (*at)
		*at = k->next_open;
	(void)pthread_mutex_unlock(&fork_lock);
}
