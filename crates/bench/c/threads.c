/* The twin of lesson 03: a thread for each client.
 *
 *     threads [BUFFER_SIZE [BACKLOG]]
 */

#include "common.h"

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
    serve_in_threads(open_socket(SOCK_STREAM, backlog), run);
}
