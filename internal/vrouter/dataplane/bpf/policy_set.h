// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Asking a policy set: rules in order, of which the first that matches decides.
 *
 * A set is an array of 64-bit words that is never changed while it is in use:
 *
 *   head | words of bitmaps | tables
 *
 * A bitmap says which rules a part of the packet matches. Each table finds the
 * bitmap of one part by its key. What matches in all parts is the intersection
 * of some twenty bitmaps, and its lowest bit the rule. Bitmaps have three
 * levels of 64, and only words that are not zero are stored, so that what a
 * packet costs depends on the rules that nearly match it, and not on how many
 * there are.
 */
#pragma once

#include "maps.h"
#include "parse6.h"

/* Words by their index: four to an element. */
#define POLICY_ROW_WORDS 4
struct policy_row {
	__u64 w[POLICY_ROW_WORDS];
};

/* Sets by their number. A number is given to one set only, ever. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(map_flags, BPF_F_INNER_MAP);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(__u32));
		__uint(value_size, sizeof(struct policy_row));
	});
} policy_set_v1 SEC(".maps");

/* Tables of a set, sorted by 128-bit key; dataplane.tableXxx in Go. Of ranges
 * (prefixes and ports) a row stands for all from its key up to the next one. */
enum policy_table {
	TABLE_SRC_IDENTITY, /* identity number */
	TABLE_DST_IDENTITY,
	TABLE_SRC_OWN, /* network of the port that asks, where it is the end's, too */
	TABLE_DST_OWN,
	TABLE_SRC_PREFIX, /* address */
	TABLE_DST_PREFIX,
	TABLE_SERVICE, /* family << 8 | protocol */
	TABLE_SRC_PORT,
	TABLE_DST_PORT,
	TABLE_SAME, /* list of types << 64 | identity: number of its tags of these types */
	TABLE_END
};

#define RANGE_TABLES                                                                               \
	(1U << TABLE_SRC_PREFIX | 1U << TABLE_DST_PREFIX | 1U << TABLE_SRC_PORT | 1U << TABLE_DST_PORT)
#define NO_KEY (~0ULL)
#define POLICY_SAME_LISTS 8

/* 2^20 rows are more than a table may have. */
#define POLICY_SEARCH_STEPS 22

/* Bitmaps that are intersected; the first ones up to BITS_HEAD are in the head
 * of the set, in this order. */
enum policy_bits {
	BITS_SRC_ANY,
	BITS_DST_ANY,
	BITS_SRC_OWN, /* the port's own network, whichever it is */
	BITS_DST_OWN,
	BITS_SRC_PORT_ANY,
	BITS_DST_PORT_ANY,
	BITS_SERVICE4, /* protocols that TABLE_SERVICE does not have */
	BITS_SERVICE6,
	BITS_PASS, /* rules that pass; not part of the match */
	BITS_SAME_NONE, /* rules that do not ask for equal tags */
	BITS_SAME,      /* those that do, by list of types */
	BITS_HEAD = BITS_SAME + POLICY_SAME_LISTS,
	BITS_SRC_IDENTITY = BITS_HEAD,
	BITS_DST_IDENTITY,
	BITS_SRC_OWN_OF,
	BITS_DST_OWN_OF,
	BITS_SRC_PREFIX,
	BITS_DST_PREFIX,
	BITS_SERVICE,
	BITS_SRC_PORT,
	BITS_DST_PORT,
	BITS_END,
	/* What follows are no bitmaps: tags of the sides. */
	BITS_TAGS = BITS_END,
	BITS_FOUND = BITS_TAGS + 2
};

/* The head: the id of the set (2 words); the highest identity that the set was
 * built with, and its number of lists of types; the number of rules; then the
 * tables (first row << 32 | rows), then two words for each bitmap. */
#define POLICY_HEAD_ID 0
#define POLICY_HEAD_KNOWN 2
#define POLICY_HEAD_RULES 3
#define POLICY_HEAD_TABLES 4
#define POLICY_HEAD_COUNTERS 14 /* of its rules, see rule_count.h */
#define POLICY_HEAD_BITS 16
#define POLICY_HEAD_WORDS (POLICY_HEAD_BITS + 2 * BITS_HEAD)

_Static_assert(BITS_TAGS == BITS_SRC_IDENTITY + TABLE_SAME, "searches");
_Static_assert(POLICY_HEAD_TABLES + TABLE_END <= POLICY_HEAD_COUNTERS, "head");
_Static_assert(POLICY_HEAD_WORDS % POLICY_ROW_WORDS == 0, "head rows");

/* Of the bitmaps two are in a row. */
#define BITS_IN_ROW (POLICY_ROW_WORDS / 2)
_Static_assert(POLICY_HEAD_BITS % POLICY_ROW_WORDS == 0 && BITS_SAME % BITS_IN_ROW == 0 &&
		       BITS_HEAD % BITS_IN_ROW == 0, "rows of bitmaps");

/* A set with up to this many rules has its bitmaps in one word each. */
#define POLICY_SMALL 64

/* A connection is asked about up to three sets of the ports at both its ends. */
#define POLICY_ASKED 6

struct policy_end {
	struct addr addr;
	__u32 identity;
	__u32 network;
};

/* The first packet of a connection, and the work on it: too much for the
 * stack. */
struct policy_query {
	struct policy_end src;
	struct policy_end dst;
	__u32 own; /* network of the port that asks */
	__u32 service;
	__u16 sport; /* of ICMP the type */
	__u16 dport; /* of ICMP the code */
	__u32 number; /* of the set */
	__u32 asked;  /* how many of counters are of rules that have decided */
	__u32 counters[8];
	__u32 row; /* number of the first rule of the page and the word */
	__u32 page_row;
	/* The search that is going on, the first row of its table, and which rows of
	 * this it is still to look at. In memory, as the verifier would tell apart
	 * all ways that bounds in registers can come about. */
	__u64 high;
	__u64 low;
	__u32 first;
	__u32 from;
	__u32 to;
	__u32 pad;
	__u64 head[POLICY_HEAD_BITS];
	/* Of each bitmap the top level, and where its pages are. */
	__u64 top[BITS_FOUND];
	__u64 pages[BITS_FOUND];
	/* The page that is being looked at, where its words are, and the words. */
	__u64 page[BITS_END];
	__u64 words[BITS_END];
	__u64 word[BITS_END];
	/* Of the other direction, and of what an ICMP error is about, with what the
	 * error has of that. */
	struct flow_key reverse;
	struct flow_key about;
	struct quoted6 quoted;
	__u64 left;       /* pages */
	__u64 candidates; /* words of the page */
	__u64 found;      /* rules of the word */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_query);
} policy_query SEC(".maps");

static __always_inline __u32 bits_in(__u64 v)
{
	v -= v >> 1 & 0x5555555555555555ULL;
	v = (v & 0x3333333333333333ULL) + (v >> 2 & 0x3333333333333333ULL);
	v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return v * 0x0101010101010101ULL >> 56;
}

static __always_inline __u32 lowest_bit(__u64 v)
{
	return bits_in((v & -v) - 1);
}

static __always_inline __u64 bits_below(__u64 v, __u32 bit)
{
	return v & ((1ULL << (bit & 63)) - 1);
}

/* What is not there has no bits: such a set refuses. */
static __always_inline __u64 policy_word(void *set, __u32 at)
{
	__u32 index = at / POLICY_ROW_WORDS;
	struct policy_row *row = bpf_map_lookup_elem(set, &index);

	return row ? row->w[at % POLICY_ROW_WORDS] : 0;
}

/* What the loops over a set work on. */
struct policy_walk {
	void *set;
	struct policy_query *q;
};

/* One step of a search: halves the rows that are still to look at. */
static long search_step(__u32 step, struct policy_walk *walk)
{
	struct policy_query *q = walk->q;

	if (q->from >= q->to)
		return 1;
	__u32 middle = (q->from + q->to) / 2, index = q->first + middle;
	struct policy_row *row = bpf_map_lookup_elem(walk->set, &index);
	if (!row)
		return 1;
	if (row->w[0] < q->high || (row->w[0] == q->high && row->w[1] <= q->low))
		q->from = middle + 1;
	else
		q->to = middle;
	return 0;
}

/* Looks a key up in a table, for the bitmap of that. Of tables without ranges the
 * key must be the row's. Returns whether something was found. */
static __always_inline int search_for(void *set, struct policy_query *q, __u32 search, __u64 high, __u64 low)
{
	struct policy_walk walk = { .set = set, .q = q };
	__u32 table = search < TABLE_SAME ? search : TABLE_SAME, to = BITS_SRC_IDENTITY + search;

	__u64 where = q->head[POLICY_HEAD_TABLES + table];

	q->top[to] = 0;
	if (!(__u32)where)
		return 0; /* most sets have rows in few tables */
	q->high = high;
	q->low = low;
	q->first = where >> 32;
	q->from = 0;
	q->to = where;
	bpf_loop(POLICY_SEARCH_STEPS, search_step, &walk, 0);
	__u32 index = q->first + q->from - 1;
	struct policy_row *row = q->from ? bpf_map_lookup_elem(set, &index) : 0;
	if (!row || (!(RANGE_TABLES >> table & 1) && (row->w[0] != high || row->w[1] != low)))
		return 0;
	q->top[to] = row->w[2];
	q->pages[to] = row->w[3];
	return 1;
}

static __always_inline __u64 high_of(const struct addr *a)
{
	return (__u64)bpf_ntohl(a->w[0]) << 32 | bpf_ntohl(a->w[1]);
}

static __always_inline __u64 low_of(const struct addr *a)
{
	return (__u64)bpf_ntohl(a->w[2]) << 32 | bpf_ntohl(a->w[3]);
}

/* The searches for one side, which are side (0 or 1) behind TABLE_SRC_x. */
static __always_inline void search_side(void *set, struct policy_query *q, const struct policy_end *e,
					__u32 side, __u16 port)
{
	search_for(set, q, TABLE_SRC_IDENTITY + side, 0, e->identity);
	search_for(set, q, TABLE_SRC_PREFIX + side, high_of(&e->addr), low_of(&e->addr));
	search_for(set, q, TABLE_SRC_PORT + side, 0, port);
	q->top[BITS_SRC_OWN_OF + side] = 0;
	if (e->network == q->own)
		search_for(set, q, TABLE_SRC_OWN + side, 0, e->network);
	else
		q->top[BITS_SRC_OWN + side] = 0;
}

/* Rules for equal tags hold where both sides have the same of a list. */
static __always_inline void search_same(void *set, struct policy_query *q, __u32 list)
{
	search_for(set, q, TABLE_SAME, list, q->src.identity);
	search_for(set, q, TABLE_SAME + 1, list, q->dst.identity);
	if (!q->top[BITS_TAGS] || q->top[BITS_TAGS] != q->top[BITS_TAGS + 1])
		q->top[BITS_SAME + list] = 0;
}

/* Looks everything up that the set has a table for. */
static __always_inline void search(void *set, struct policy_query *q)
{
	search_side(set, q, &q->src, 0, q->sport);
	search_side(set, q, &q->dst, 1, q->dport);
	if (!search_for(set, q, TABLE_SERVICE, 0, q->service)) {
		int other = q->service >> 8 == 4 ? BITS_SERVICE4 : BITS_SERVICE6;

		q->top[BITS_SERVICE] = q->top[other];
		q->pages[BITS_SERVICE] = q->pages[other];
	}
	if (q->head[POLICY_HEAD_KNOWN] >> 32)
		for (__u32 i = 0; i < POLICY_SAME_LISTS; i++)
			search_same(set, q, i);
}

/* The rules that match in all parts, by one word of each bitmap. */
static __always_inline __u64 intersect(const __u64 *b)
{
	__u64 same = b[BITS_SAME_NONE];

#pragma unroll
	for (int i = 0; i < POLICY_SAME_LISTS; i++)
		same |= b[BITS_SAME + i];
	return same &
	       (b[BITS_SRC_ANY] | b[BITS_SRC_OWN] | b[BITS_SRC_OWN_OF] | b[BITS_SRC_PREFIX] |
		b[BITS_SRC_IDENTITY]) &
	       (b[BITS_DST_ANY] | b[BITS_DST_OWN] | b[BITS_DST_OWN_OF] | b[BITS_DST_PREFIX] |
		b[BITS_DST_IDENTITY]) &
	       b[BITS_SERVICE] & (b[BITS_SRC_PORT_ANY] | b[BITS_SRC_PORT]) &
	       (b[BITS_DST_PORT_ANY] | b[BITS_DST_PORT]);
}

/* Of a large set, page by page and word by word. */
static long walk_set(__u32 step, struct policy_walk *walk)
{
	struct policy_query *q = walk->q;
	void *set = walk->set;

	if (q->candidates) { /* words in which all parts have some rule */
		__u32 bit = lowest_bit(q->candidates);

		q->candidates &= q->candidates - 1;
		for (int i = 0; i < BITS_END; i++) {
			q->word[i] = 0;
			if (q->page[i] >> (bit & 63) & 1)
				q->word[i] = policy_word(set, q->words[i] + bits_in(bits_below(q->page[i], bit)));
		}
		q->found = intersect(q->word);
		q->row = q->page_row + bit * 64;
		return q->found != 0;
	}
	if (!q->left)
		return 1;
	__u32 bit = lowest_bit(q->left);

	q->left &= q->left - 1;
	q->page_row = bit * 4096;
	for (int i = 0; i < BITS_END; i++) {
		q->page[i] = 0;
		if (q->top[i] >> (bit & 63) & 1) {
			__u32 at = q->pages[i] + 2 * bits_in(bits_below(q->top[i], bit));

			q->page[i] = policy_word(set, at);
			q->words[i] = policy_word(set, at + 1);
		}
	}
	q->candidates = intersect(q->page);
	return 0;
}

enum policy_verdict {
	POLICY_REFUSED = 0,
	POLICY_PASSED = 1,
	POLICY_UNKNOWN = 2, /* the set does not exist, or does not know an end */
};

/* Notes the counter of a rule that has decided; behind the last is that of no rule. */
static __always_inline void note_rule(struct policy_query *q, __u32 rule)
{
	__u32 first = q->head[POLICY_HEAD_COUNTERS], at = q->asked;

	if (!first || at >= POLICY_ASKED)
		return;
	q->counters[at & 7] = first + rule;
	q->asked = at + 1;
}

/* Asks the set q->number; verified once, for all that call it. */
__noinline int ask_set(struct policy_query *q)
{
	if (!q)
		return POLICY_UNKNOWN;
	__u32 number = q->number;
	void *set = bpf_map_lookup_elem(&policy_set_v1, &number);
	if (!set)
		return POLICY_UNKNOWN;
	for (__u32 i = 0; i < POLICY_HEAD_BITS / POLICY_ROW_WORDS; i++) {
		__u32 index = i;
		struct policy_row *row = bpf_map_lookup_elem(set, &index);

		if (!row)
			return POLICY_UNKNOWN;
		for (int j = 0; j < POLICY_ROW_WORDS; j++)
			q->head[i * POLICY_ROW_WORDS + j] = row->w[j];
	}
	__u32 known = q->head[POLICY_HEAD_KNOWN];
	if (q->src.identity > known || q->dst.identity > known)
		return POLICY_UNKNOWN;
	/* Few sets ask for equal tags. */
	__u32 same = q->head[POLICY_HEAD_KNOWN] >> 32 != 0;
	for (__u32 i = 0; i < BITS_HEAD / BITS_IN_ROW; i++) {
		if (i >= BITS_SAME / BITS_IN_ROW && !same) {
			q->top[i * BITS_IN_ROW] = 0;
			q->top[i * BITS_IN_ROW + 1] = 0;
			continue;
		}
		__u32 index = POLICY_HEAD_BITS / POLICY_ROW_WORDS + i;
		struct policy_row *row = bpf_map_lookup_elem(set, &index);

		if (!row)
			return POLICY_UNKNOWN;
		q->top[i * BITS_IN_ROW] = row->w[0];
		q->pages[i * BITS_IN_ROW] = row->w[1];
		q->top[i * BITS_IN_ROW + 1] = row->w[2];
		q->pages[i * BITS_IN_ROW + 1] = row->w[3];
	}
	search(set, q);

	__u64 found = intersect(q->top);
	__u32 rules = q->head[POLICY_HEAD_RULES];
	if (rules <= POLICY_SMALL) {
		note_rule(q, found ? lowest_bit(found) : rules);
		return found ? q->top[BITS_PASS] >> lowest_bit(found) & 1 : POLICY_REFUSED;
	}

	struct policy_walk walk = { .set = set, .q = q };

	q->left = found;
	q->candidates = 0;
	q->found = 0;
	/* A step for each page and each word of a set of 65536 rules. */
	bpf_loop(16 + 1024 + 1, walk_set, &walk, 0);
	note_rule(q, q->found ? q->row + lowest_bit(q->found) : rules);
	return q->found ? q->word[BITS_PASS] >> lowest_bit(q->found) & 1 : POLICY_REFUSED;
}
