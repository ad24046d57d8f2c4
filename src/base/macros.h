/* Small helpers that every file may use: attributes, ownership and cleanup. */
#pragma once

#include <stddef.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _must_check_ __attribute__((warn_unused_result))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _unused_ __attribute__((unused))
#define _noreturn_ __attribute__((noreturn))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

/* Hands a pointer over: yields its value and leaves NULL behind, so that a _cleanup_ does nothing.
 */
#define TAKE(p)                                 \
	({                                      \
		__typeof__(p) *take_p = &(p);   \
		__typeof__(p) take_v = *take_p; \
		*take_p = NULL;                 \
		take_v;                         \
	})

/* For a type with `void name##_free(type *)`, which must take NULL: defines name##_freep for
 * _cleanup_. */
#define DEFINE_CLEANUP(type, name)                                        \
	/* NOLINTNEXTLINE(bugprone-macro-parentheses): a type has none */ \
	static inline _unused_ void name##_freep(type **p)                \
	{                                                                 \
		name##_free(*p);                                          \
		*p = NULL;                                                \
	}

#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
