/* One thread for all clients: the twin of lesson 10, and its other half.
 *
 *     epoll edge     is told once that something has come, and so reads until
 *                    there is no more: four calls a request, as lesson 10
 *     epoll level    is told as long as there is something, and so reads once
 *                    for each event: three calls a request
 */

#include "common.h"
#include <sys/epoll.h>

enum { BUFFER_SIZE = 1024, EVENTS = 1024, READS_A_TURN = 16, PAUSE_MS = 1000 };
enum { BOTH = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };

/* A client between two events. What was read and could not be sent yet is of
 * one read, never of two. */
struct state {
    struct client client;
    long total;
    char *unsent;
    size_t length, capacity;
};

static int epoll;

static void watch(int how, int fd, uint32_t events, struct state *of)
{
    struct epoll_event event = { .events = events, .data.ptr = of };
    if (epoll_ctl(epoll, how, fd, &event) < 0)
        fail("epoll_ctl");
}

/* These return 1 when they are through, 0 when the client has half-closed, and
 * -1 on an error; EAGAIN says that there is nothing to do for now. */

static int send_unsent(struct state *of)
{
    while (of->length > 0) {
        ssize_t now = send(of->client.fd, of->unsent, of->length, MSG_NOSIGNAL);
        if (now < 0)
            return -1;
        of->length -= now;
        memmove(of->unsent, of->unsent + now, of->length);
    }
    return 1;
}

static int receive_some(struct state *of)
{
    char buffer[BUFFER_SIZE];
    ssize_t count = receive(of->client.fd, buffer, sizeof buffer);
    if (count <= 0)
        return count;
    if (of->capacity < (size_t)count) {
        of->capacity = count;
        if (!(of->unsent = realloc(of->unsent, of->capacity)))
            fail("realloc");
    }
    memcpy(of->unsent, buffer, count);
    of->length = count;
    of->total += count;
    return 1;
}

static int echo_edge(struct state *of, uint32_t events)
{
    uint32_t awaited = of->length > 0 ? EPOLLOUT : EPOLLIN;
    if (!(events & (awaited | EPOLLERR | EPOLLHUP)))
        return 1;
    for (int reads = 0; reads < READS_A_TURN; reads++) {
        int result = send_unsent(of);
        if (result > 0)
            result = receive_some(of);
        if (result <= 0)
            return result;
    }
    /* Another's turn. What is there already makes an event again, by this. */
    watch(EPOLL_CTL_MOD, of->client.fd, BOTH, of);
    return 1;
}

static int echo_level(struct state *of, uint32_t events)
{
    (void)events;
    int was_full = of->length > 0;
    int result = was_full ? 1 : receive_some(of);
    if (result <= 0)
        return result;
    result = send_unsent(of);
    int is_full = result < 0 && errno == EAGAIN;
    if (is_full != was_full)
        watch(EPOLL_CTL_MOD, of->client.fd, is_full ? EPOLLOUT : EPOLLIN, of);
    return is_full ? 1 : result;
}

static int edge;

static void talk(struct state *of, uint32_t events)
{
    int result = (edge ? echo_edge : echo_level)(of, events);
    if (result > 0 || (result < 0 && errno == EAGAIN))
        return;
    leave(&of->client, result < 0 ? -1 : of->total, "bytes");
    free(of->unsent);
    free(of);
}

/* Lets in who waits: all of them, or with `level` one. Returns for how many
 * milliseconds to pause; with -1 there is no need to. */
static int accept_clients(int listener)
{
    do {
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        int fd = accept4(listener, (struct sockaddr *)&peer, &length,
            SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno == EAGAIN)
            return -1;
        if (fd < 0) {
            perror("cannot accept a client, trying again");
            return PAUSE_MS;
        }
        struct state *of = calloc(1, sizeof *of);
        if (!of)
            fail("calloc");
        of->client = (struct client) { fd, peer };
        greet(&of->client);
        watch(EPOLL_CTL_ADD, fd, edge ? BOTH : EPOLLIN, of);
    } while (edge);
    return -1;
}

int main(int count, char **args)
{
    edge = count == 2 && strcmp(args[1], "edge") == 0;
    if (!edge && (count != 2 || strcmp(args[1], "level") != 0)) {
        fprintf(stderr, "usage: epoll edge|level\n");
        return 1;
    }
    if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        fail("epoll_create1");
    int listener = open_socket(SOCK_STREAM | SOCK_NONBLOCK, 128);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN | (edge ? EPOLLET : 0), NULL);
    for (int pause = -1;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, pause);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        int comes = pause >= 0;
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr)
                talk(events[i].data.ptr, events[i].events);
            else
                comes = 1;
        }
        if (comes)
            pause = accept_clients(listener);
    }
}
