/*
 * The figures (clients/README.md, "The bench"): a call for a key in memory; an acquire with a lease
 * through the library; and the same request as bytes over a socket of its own, taking turns with
 * it: bench SECONDS.
 */
#include <err.h>
#include <keybroker.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BENCH_CACHED = 1000000, BENCH_MOST = 4000000 };

struct times {
	double *us;
	size_t n;
};

static double now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void times_add(struct times *t, double us)
{
	if (t->n < BENCH_MOST)
		t->us[t->n++] = us;
}

static struct times times_new(void)
{
	struct times t = { malloc(BENCH_MOST * sizeof(double)), 0 };

	if (!t.us)
		errx(1, "no memory");
	return t;
}

static void times_print(const char *name, struct times *t, const char *end)
{
	qsort(t->us, t->n, sizeof(*t->us), compare);
	(void)printf("\"%s\": {\"p50\": %.1f, \"p99\": %.1f}%s", name, t->us[t->n / 2],
		     t->us[t->n * 99 / 100], end);
}

static double bench_cached(struct keybroker *k)
{
	double began = now_us();

	for (int i = 0; i < BENCH_CACHED; i++) {
		struct keybroker_lease *l;

		if (keybroker_get(k, "service", &l, NULL) != KEYBROKER_OK)
			errx(1, "no key");
		keybroker_lease_free(l);
	}
	return (now_us() - began) * 1000 / BENCH_CACHED;
}

/* --- bare --- */

static unsigned char *put_text(unsigned char *at, const char *text)
{
	size_t n = strlen(text);

	*at++ = 0xd9;
	*at++ = (unsigned char)n;
	memcpy(at, text, n);
	return at + n;
}

/* acquire, as the library asks for a lease that there is. */
static size_t bare_request(unsigned char *data, const char *lease)
{
	unsigned char *at = data;

	memcpy(at, "\x94\x00\x07", 3);
	at = put_text(at + 3, "acquire");
	memcpy(at, "\x91\x83", 2);
	at = put_text(put_text(at + 2, "lease"), lease);
	at = put_text(put_text(at, "request_id"), "0123456789abcdef01234567");
	at = put_text(at, "timeout_ms");
	memcpy(at, "\xcd\x71\x48", 3);
	return (size_t)(at + 3 - data);
}

static int bare_connect(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		err(1, "%s", path);
	return fd;
}

static void bare_once(int fd, const unsigned char *request, size_t n)
{
	unsigned char reply[65536];

	if (write(fd, request, n) != (ssize_t)n)
		err(1, "write");
	ssize_t got = read(fd, reply, sizeof(reply));
	/* [1, id, nil, {…}] */
	if (got < 8 || reply[0] != 0x94 || reply[1] != 1 || reply[3] != 0xc0)
		errx(1, "the bare request was refused");
}

int main(int argc, char **argv)
{
	double until = now_us() + (argc > 1 ? atof(argv[1]) : 5) * 1e6;
	struct times warm = times_new(), bare = times_new();
	struct keybroker_lease *l;
	struct keybroker_error e;
	unsigned char request[512];
	struct keybroker *k;

	if (keybroker_open(&k, NULL, &e) || keybroker_get(k, "service", &l, &e))
		errx(1, "%s\n%s", e.message, e.advice);
	if (strlen(keybroker_lease_id(l)) > 255)
		errx(1, "a lease id of another world");
	const struct keybroker_request again = { .lease = keybroker_lease_id(l) };
	size_t n = bare_request(request, keybroker_lease_id(l));
	int fd = bare_connect(keybroker_socket_path(k));
	double cached_ns = bench_cached(k);

	while (now_us() < until) {
		struct keybroker_lease *warmed;
		double began = now_us();

		if (keybroker_acquire(k, &again, &warmed, &e))
			errx(1, "%s", e.message);
		keybroker_lease_free(warmed);
		times_add(&warm, now_us() - began);
		began = now_us();
		bare_once(fd, request, n);
		times_add(&bare, now_us() - began);
	}
	(void)printf("{\"cached_ns\": %.0f, ", cached_ns);
	times_print("warm_us", &warm, ", ");
	times_print("bare_us", &bare, "}\n");
	free(warm.us);
	free(bare.us);
	(void)close(fd);
	keybroker_lease_free(l);
	keybroker_close(k);
	return 0;
}
