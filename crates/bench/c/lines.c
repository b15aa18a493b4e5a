/* The twin of lesson 07: each line is answered with its number and itself. */

#include "common.h"

enum { BUFFER_SIZE = 1024, MAX_LINE = 4096 };

/* Bytes that grow, and keep their memory. */
struct bytes {
    char *at;
    size_t length, capacity;
};

static char *make_room(struct bytes *bytes, size_t more)
{
    if (bytes->capacity - bytes->length < more) {
        bytes->capacity = 2 * bytes->capacity + more;
        if (!(bytes->at = realloc(bytes->at, bytes->capacity)))
            fail("realloc");
    }
    return bytes->at + bytes->length;
}

static void add(struct bytes *bytes, const char *more, size_t count)
{
    memcpy(make_room(bytes, count), more, count);
    bytes->length += count;
}

static int is_utf8(const unsigned char *at, const unsigned char *end)
{
    while (at < end) {
        unsigned char first = *at++;
        if (first < 0x80)
            continue;
        int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        if (first < 0xc2 || first > 0xf4 || end - at < more)
            return 0;
        /* No long forms, no surrogates, nothing beyond U+10FFFF. */
        if ((first == 0xe0 && *at < 0xa0) || (first == 0xed && *at > 0x9f)
            || (first == 0xf0 && *at < 0x90) || (first == 0xf4 && *at > 0x8f))
            return 0;
        while (more-- > 0)
            if ((*at++ & 0xc0) != 0x80)
                return 0;
    }
    return 1;
}

/* Answers all whole lines in `input`, and keeps the rest. */
static void answer(struct bytes *input, struct bytes *answers, long *number,
    int *skipping)
{
    size_t taken = 0;
    char *newline;
    while ((newline = memchr(input->at + taken, '\n', input->length - taken))) {
        char *line = input->at + taken;
        size_t length = newline - line;
        taken += length + 1;
        if (length > 0 && line[length - 1] == '\r')
            length--;
        char digits[24];
        int count = snprintf(digits, sizeof digits, "%ld", ++*number);
        add(answers, digits, count);
        if (*skipping || length > MAX_LINE) {
            *skipping = 0;
            add(answers, " is too long\n", 13);
        } else if (!is_utf8((void *)line, (void *)(line + length))) {
            add(answers, " is not UTF-8\n", 14);
        } else {
            add(answers, ": ", 2);
            add(answers, line, length);
            add(answers, "\n", 1);
        }
    }
    input->length -= taken;
    memmove(input->at, input->at + taken, input->length);
    if (*skipping || input->length > MAX_LINE + 1) {
        input->length = 0;
        *skipping = 1;
    }
}

/* Answers a client's lines until it half-closes; counts them. */
static long converse(int fd)
{
    char buffer[BUFFER_SIZE];
    struct bytes input = { 0 }, answers = { 0 };
    long number = 0, result = -1;
    int skipping = 0;
    ssize_t count;
    while ((count = receive(fd, buffer, sizeof buffer)) > 0) {
        add(&input, buffer, count);
        answer(&input, &answers, &number, &skipping);
        if (send_all(fd, answers.at, answers.length) < 0)
            break;
        answers.length = 0;
    }
    if (count == 0 && (skipping || input.length > 0))
        errno = EPROTO;
    else if (count == 0)
        result = number;
    free(input.at);
    free(answers.at);
    return result;
}

static void *run(void *argument)
{
    struct client *client = argument;
    leave(client, converse(client->fd), "lines");
    free(client);
    return NULL;
}

int main(void)
{
    serve_in_threads(open_socket(SOCK_STREAM, 128), run);
}
