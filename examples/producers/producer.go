// A call through Redial from Go 1.24. Requires: go get github.com/redis/go-redis/v9
//
//	REDIS_URL=redis://127.0.0.1:6379 go run producer.go https://example.com/
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	options, err := redis.ParseURL(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6379"))
	check(err)
	ctx, client := context.Background(), redis.NewClient(options)
	// The random name keeps others from taking the answer; the braces put the list into the queue's Cluster slot.
	answers := "answers:{default}:" + rand.Text()
	task, err := json.Marshal(map[string]any{"url": os.Args[1], "reply_to": answers, "body": map[string]any{"from": "go"}})
	check(err)
	check(client.LPush(ctx, "redial:{default}", task).Err())
	answer, err := client.BRPop(ctx, 60*time.Second, answers).Result() // Blocks until the answer is there.
	if err == redis.Nil {
		log.Fatal("no answer within 60 s: is a worker running?")
	}
	check(err)
	fmt.Println(answer[1])
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
