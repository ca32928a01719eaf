/* SPDX-License-Identifier: Apache-2.0 */
/* Errors. Every function that can fail returns an int below zero (or NULL) and writes the text once, where the cause is
   known, into the caller's struct error. Callers may put a prefix before it (error_prefix), never replace it. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

/* The codes are the negated exit codes of <sysexits.h>, so a program can leave with -code. */
enum {
    ERR_USAGE = -64,       /* an argument is wrong */
    ERR_DATA = -65,        /* a file's content is wrong */
    ERR_NOINPUT = -66,     /* a file is missing or cannot be opened */
    ERR_UNAVAILABLE = -69, /* a device is missing or lost */
    ERR_INTERNAL = -70,    /* our own bug */
    ERR_OS = -71,          /* out of memory, threads, descriptors */
    ERR_CREATE = -73,      /* an output file cannot be created */
    ERR_IO = -74,          /* reading or writing failed */
    ERR_CONFIG = -78       /* a model configuration that this engine refuses */
};

struct error {
    int code;       /* one of the above; 0 while nothing went wrong */
    char text[508]; /* one line, no newline at its end */
};

/* Sets code and text (printf rules; a control character or a line separator, U+0080 to U+009F and U+2028 and U+2029 among them, becomes '?'; overlong text is cut) and returns code. err may be NULL. */
int fail(struct error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the text that err already has, and returns err->code. err may be NULL: then returns ERR_INTERNAL. */
int error_prefix(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
