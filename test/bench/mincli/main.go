// Command mincli reads one key from etcd with the Go client and prints its value:
// the least that a program of this kind can cost. The benchmark measures
// locksmithctl against it. It must not learn to do anything else.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: mincli ENDPOINT KEY")
		return 2
	}
	if err := read(args[0], args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "mincli:", err)
		return 1
	}
	return 0
}

func read(endpoint, key string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	resp, err := client.Get(ctx, key)
	if err != nil {
		return err
	}
	for _, kv := range resp.Kvs {
		fmt.Println(string(kv.Value))
	}
	return nil
}
