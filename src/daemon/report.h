/*
 * Keys that upstream refused to a client (`report`): is the key dead? Upstream is asked once for
 * all who report one key, and at most once in a while; only its proof counts.
 */
#pragma once

struct key;
struct report;

/* Ends the question that is under way and answers nobody: for key_free(). NULL is fine. */
void report_free(struct report *q);
/* A clean stop: who waits is told to ask again. */
void report_stop(struct key *k);
