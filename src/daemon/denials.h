/*
 * Denials in the audit: the first of a uid for one thing (an event, a profile) in a minute is a row
 * before its reply leaves; those that follow are counted and become one row at the minute's end, so
 * that a loop of refused calls cannot fill the disk.
 */
#pragma once

#include "base/macros.h"

struct daemon;
struct denials;
struct request;

struct denied {
	const char *event;   /* what was asked for */
	const char *profile; /* "" where none is concerned */
	const char *why;     /* one line for the audit */
};

struct denials *denials_new(struct daemon *d);
void denials_free(struct denials *denials);
DEFINE_CLEANUP(struct denials, denials)
/* Records what was denied to the peer of `r`, and answers `denied` with the text. */
void denials_answer(struct daemon *d, struct request *r, const struct denied *what, const char *fmt,
		    ...) _printf_(4, 5);
/* The same where no rule allows the profile. */
void denials_by_rule(struct daemon *d, struct request *r, const char *event, const char *profile);
/* Writes down what is only counted yet (a clean stop). */
void denials_flush(struct daemon *d);
