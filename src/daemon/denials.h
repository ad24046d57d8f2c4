/*
 * Denials in the audit: the first of a uid for a profile in a minute is a row before its reply
 * leaves; those that follow are counted and become one row at the minute's end, so that a loop of
 * refused calls cannot fill the disk.
 */
#pragma once

#include "base/macros.h"

struct daemon;
struct denials;
struct request;

struct denials *denials_new(struct daemon *d);
void denials_free(struct denials *denials);
DEFINE_CLEANUP(struct denials, denials)
/* Records that the peer of `r` may not have `profile`, and answers `denied`. */
void denials_answer(struct daemon *d, struct request *r, const char *profile);
/* Writes down what is only counted yet (a clean stop). */
void denials_flush(struct daemon *d);
