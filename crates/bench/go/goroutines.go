// The twin of lesson 11 in Go: a goroutine for each client.

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	for {
		client, err := listener.Accept()
		if err != nil {
			fmt.Fprintf(os.Stderr, "cannot accept a client: %v\n", err)
			time.Sleep(time.Second)
			continue
		}
		go serve(client)
	}
}

func serve(client net.Conn) {
	defer client.Close()
	name := client.RemoteAddr()
	fmt.Printf("%s connected\n", name)
	total, err := echo(client)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return
	}
	fmt.Printf("%s closed the connection after %d bytes\n", name, total)
}

// Sends back what comes, until the client half-closes; counts the bytes.
func echo(client net.Conn) (int, error) {
	buffer := make([]byte, 1024)
	total := 0
	for {
		count, err := client.Read(buffer)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		if _, err := client.Write(buffer[:count]); err != nil {
			return total, err
		}
		total += count
	}
}
