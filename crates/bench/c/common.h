/* What the C twins share: the listener, a client's lines, and the echo. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Room for `255.255.255.255:65535` and the zero that ends it. */
enum { NAME_SIZE = INET_ADDRSTRLEN + 6 };

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void name_of(const struct sockaddr_in *addr, char name[NAME_SIZE])
{
    char ip[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &addr->sin_addr, ip, sizeof ip);
    snprintf(name, NAME_SIZE, "%s:%d", ip, ntohs(addr->sin_port));
}

/* A socket on 127.0.0.1 and a port that the kernel chooses, with the options
 * that Rust's std sets, and the first line said. A backlog of 0: no listener. */
static int open_socket(int type, int backlog)
{
    /* As println! does: one write a line, whatever stdout is. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    int on = 1;
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t length = sizeof addr;
    if (backlog > 0
        && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        fail("setsockopt");
    if (bind(fd, (struct sockaddr *)&addr, length) < 0)
        fail("bind");
    if (backlog > 0 && listen(fd, backlog) < 0)
        fail("listen");
    if (getsockname(fd, (struct sockaddr *)&addr, &length) < 0)
        fail("getsockname");
    char name[NAME_SIZE];
    name_of(&addr, name);
    printf("listening on %s\n", name);
    return fd;
}

struct client {
    int fd;
    struct sockaddr_in peer;
};

/* Says that a client has come. */
static inline void greet(const struct client *client)
{
    char name[NAME_SIZE];
    name_of(&client->peer, name);
    printf("%s connected\n", name);
}

/* The next client, after its line. An error does not end the server. */
static inline struct client accept_client(int listener)
{
    struct client client;
    socklen_t length = sizeof client.peer;
    while ((client.fd = accept4(listener, (struct sockaddr *)&client.peer,
                &length, SOCK_CLOEXEC)) < 0) {
        perror("cannot accept a client, trying again");
        nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
    }
    greet(&client);
    return client;
}

static inline ssize_t receive(int fd, char *buffer, size_t size)
{
    ssize_t count;
    while ((count = recv(fd, buffer, size, 0)) < 0 && errno == EINTR)
        ;
    return count;
}

static inline int send_all(int fd, const char *bytes, size_t count)
{
    for (size_t sent = 0; sent < count;) {
        ssize_t now = send(fd, bytes + sent, count - sent, MSG_NOSIGNAL);
        if (now < 0 && errno != EINTR)
            return -1;
        if (now > 0)
            sent += now;
    }
    return 0;
}

/* Sends back what comes, until the client half-closes; counts the bytes. */
static inline long echo(int fd, size_t size)
{
    char buffer[size];
    long total = 0;
    for (;;) {
        ssize_t count = receive(fd, buffer, size);
        if (count <= 0)
            return count < 0 ? -1 : total;
        if (send_all(fd, buffer, count) < 0)
            return -1;
        total += count;
    }
}

/* Says what came of a client, and closes. A count below 0 is an error. */
static inline void leave(const struct client *client, long count, char *of)
{
    char name[NAME_SIZE];
    name_of(&client->peer, name);
    if (count < 0)
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
    else
        printf("%s closed the connection after %ld %s\n", name, count, of);
    close(client->fd);
}

static inline void serve(const struct client *client, size_t size)
{
    leave(client, echo(client->fd, size), "bytes");
}

/* What Rust's std gives a thread. */
enum { STACK_SIZE = 2 << 20 };

/* A thread for each client, for ever. `run` takes a client, and frees it. */
static inline void serve_in_threads(int listener, void *(*run)(void *))
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (;;) {
        struct client client = accept_client(listener), *copy;
        if (!(copy = malloc(sizeof *copy)))
            fail("malloc");
        *copy = client;
        pthread_t thread;
        if ((errno = pthread_create(&thread, &attr, run, copy)))
            fail("pthread_create");
    }
}
