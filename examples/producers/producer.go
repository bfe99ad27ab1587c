// A call through Redial from Go: go get github.com/redis/go-redis/v9.
//
//	REDIS_URL=redis://127.0.0.1:6379 go run producer.go https://example.com/
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	address := os.Getenv("REDIS_URL")
	if address == "" {
		address = "redis://127.0.0.1:6379"
	}
	options, err := redis.ParseURL(address)
	check(err)
	ctx, client := context.Background(), redis.NewClient(options)
	// In the queue's slot, so that it works in a Cluster too; a name of its own, so that no one else takes the answer.
	name := make([]byte, 16)
	_, err = rand.Read(name)
	check(err)
	answers := "answers:{default}:" + hex.EncodeToString(name)
	task, err := json.Marshal(map[string]any{"url": os.Args[1], "reply_to": answers, "body": map[string]any{"from": "go"}})
	check(err)
	check(client.LPush(ctx, "redial:{default}", task).Err())
	answer, err := client.BRPop(ctx, 60*time.Second, answers).Result() // Nothing is polled; redis.Nil: no answer in time.
	check(err)
	fmt.Println(answer[1])
}

func check(err error) { if err != nil { log.Fatal(err) } }
