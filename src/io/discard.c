#include "io/discard.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

#include "base/fd.h"
#include "base/log.h"

#define DISCARD_MAX 64	    /* a power of 2 */
#define DISCARD_ROOM 4	    /* of one message: as many as fit beside no credentials */
#define DISCARD_STACK 65536 /* the thread does nothing but close() */

/* One for the process: closing is the kernel's, whoever asks. */
static struct discard_queue {
	pthread_mutex_t lock;
	pthread_cond_t more;
	int fds[DISCARD_MAX];
	size_t first, n; /* a ring */
	bool started;
} discard_queue = { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER };

static void *discard_run(void *arg)
{
	struct discard_queue *q = arg;

	pthread_mutex_lock(&q->lock);
	for (;;) {
		int fd;

		while (q->n == 0)
			pthread_cond_wait(&q->more, &q->lock);
		fd = q->fds[q->first];
		pthread_mutex_unlock(&q->lock);
		fd_close(&fd);
		pthread_mutex_lock(&q->lock);
		/* counted until it is closed: what hangs takes room */
		q->first = (q->first + 1) % DISCARD_MAX;
		q->n--;
	}
	return NULL;
}

/* Signals are the main thread's. */
static bool discard_start(struct discard_queue *q)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int r;

	if (q->started)
		return true;
	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, DISCARD_STACK);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, &attributes, discard_run, q);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	q->started = r == 0;
	return q->started;
}

bool discard_has_room(void)
{
	struct discard_queue *q = &discard_queue;
	bool room;

	pthread_mutex_lock(&q->lock);
	room = q->n + DISCARD_ROOM <= DISCARD_MAX;
	pthread_mutex_unlock(&q->lock);
	return room;
}

void discard(int fd)
{
	struct discard_queue *q = &discard_queue;
	bool queued;

	pthread_mutex_lock(&q->lock);
	queued = q->n < DISCARD_MAX && discard_start(q);
	if (queued) {
		q->fds[(q->first + q->n++) % DISCARD_MAX] = fd;
		pthread_cond_signal(&q->more);
	}
	if (queued && q->n == DISCARD_MAX / 2)
		log_warning("clients have sent %d descriptors that are slow to close, as of a file "
			    "system that hangs; from %d on none is taken, nor a pidfd of for_pid",
			    DISCARD_MAX / 2, DISCARD_MAX);
	pthread_mutex_unlock(&q->lock);
	if (!queued)
		fd_close(&fd);
}
