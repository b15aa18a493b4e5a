/* The twin of lesson 05: each datagram goes back to where it came from. */

#include "common.h"

int main(void)
{
    static char buffer[65535];
    int fd = open_socket(SOCK_DGRAM, 0);
    for (;;) {
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        ssize_t count = recvfrom(fd, buffer, sizeof buffer, 0,
            (struct sockaddr *)&peer, &length);
        if (count < 0) {
            if (errno == EINTR)
                continue;
            fail("recvfrom");
        }
        if (sendto(fd, buffer, count, MSG_NOSIGNAL, (struct sockaddr *)&peer,
                length) < 0)
            perror("sendto");
    }
}
