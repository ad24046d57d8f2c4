/*
 * The instances that run over one state, and what they see of the leader. These rows carry no
 * fence: each instance writes its own, whoever leads. Their commits are not synced: after a power
 * cut no instance is left that they could tell of.
 */
#pragma once

#include "io/store.h"

/* Enters `self`, or brings it back if a leader had forgotten it. Outcomes as store_begin(). */
int store_register(struct store *s, const struct leader *self) _must_check_;
/* Takes an instance out: itself at its end, or one that is gone. */
int store_unregister(struct store *s, const char *holder) _must_check_;
/* A standby shows that it lives. -ENOENT: it is not registered (any more). */
int store_beat_instance(struct store *s, const char *holder) _must_check_;
/* The leader does. STORE_E_FENCED: another one leads. */
int store_beat_leader(struct store *s) _must_check_;

/* Every registered instance; `term` is 0. A non-zero answer stops and is returned. Reads while
 * another holds the write lock. */
typedef int (*store_instance_fn)(const struct leader *row, void *userdata);
int store_each_instance(struct store *s, store_instance_fn each, void *userdata) _must_check_;
/* Who leads, as the row says; pid 0: nobody. Reads likewise. */
int store_read_leader(struct store *s, struct leader *ret) _must_check_;

/* How often a leader has read the configuration again, in the life of the state. -EIO: cannot be
 * read now. */
int64_t store_reloads(struct store *s);

/*
 * The process that holds the state's write lock, of our pid namespace; 0: nobody, or it cannot be
 * told. From /proc/locks, since asking SQLite's own lock would need its -shm file to be opened.
 */
pid_t store_lock_holder(const struct store *s);
