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
    char name[NAME_SIZE];
    name_of(&client.peer, name);
    printf("%s connected\n", name);
    return client;
}

/* Sends back what comes, until the client half-closes; counts the bytes. */
static inline long echo(int fd, size_t size)
{
    char buffer[size];
    long total = 0;
    for (;;) {
        ssize_t count = recv(fd, buffer, size, 0);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0 ? -1 : total;
        for (ssize_t sent = 0; sent < count;) {
            ssize_t now = send(fd, buffer + sent, count - sent, MSG_NOSIGNAL);
            if (now < 0 && errno != EINTR)
                return -1;
            if (now > 0)
                sent += now;
        }
        total += count;
    }
}

/* Echoes to one client, says what came of it, and closes. */
static inline void serve(const struct client *client, size_t size)
{
    char name[NAME_SIZE];
    name_of(&client->peer, name);
    long count = echo(client->fd, size);
    if (count < 0)
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
    else
        printf("%s closed the connection after %ld bytes\n", name, count);
    close(client->fd);
}
