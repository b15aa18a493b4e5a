/* The twin of lesson 03: a thread for each client.
 *
 *     threads [BUFFER_SIZE [BACKLOG]]
 */

#include "common.h"

/* What Rust's std gives a thread. */
enum { STACK_SIZE = 2 << 20 };

static size_t buffer_size = 1024;

static void *run(void *argument)
{
    struct client *client = argument;
    serve(client, buffer_size);
    free(client);
    return NULL;
}

int main(int count, char **args)
{
    if (count > 1)
        buffer_size = strtoul(args[1], NULL, 10);
    int backlog = count > 2 ? atoi(args[2]) : 128;
    if (buffer_size < 1 || buffer_size > STACK_SIZE / 2 || backlog < 1) {
        fprintf(stderr, "usage: threads [BUFFER_SIZE [BACKLOG]]\n");
        return 1;
    }
    int listener = open_socket(SOCK_STREAM, backlog);
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
