/* The twin of lesson 04: four workers, and a queue with room for four. */

#include "common.h"
#include <sys/time.h>

enum { WORKERS = 4, QUEUE = 4, BUFFER_SIZE = 1024, TIMEOUT_S = 30 };

static struct client queue[QUEUE];
static unsigned first, waiting;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER;
static pthread_cond_t not_full = PTHREAD_COND_INITIALIZER;

static void submit(struct client client)
{
    pthread_mutex_lock(&lock);
    while (waiting == QUEUE)
        pthread_cond_wait(&not_full, &lock);
    queue[(first + waiting) % QUEUE] = client;
    waiting++;
    pthread_cond_signal(&not_empty);
    pthread_mutex_unlock(&lock);
}

static struct client next(void)
{
    pthread_mutex_lock(&lock);
    while (waiting == 0)
        pthread_cond_wait(&not_empty, &lock);
    struct client client = queue[first];
    first = (first + 1) % QUEUE;
    waiting--;
    pthread_cond_signal(&not_full);
    pthread_mutex_unlock(&lock);
    return client;
}

static void *work(void *argument)
{
    (void)argument;
    for (;;) {
        struct client client = next();
        struct timeval time = { .tv_sec = TIMEOUT_S };
        setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
        setsockopt(client.fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
        serve(&client, BUFFER_SIZE);
    }
    return NULL;
}

int main(void)
{
    for (int i = 0; i < WORKERS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, NULL))
            fail("pthread_create");
    }
    int listener = open_socket(SOCK_STREAM, 128);
    for (;;)
        submit(accept_client(listener));
}
