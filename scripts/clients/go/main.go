// go-redis with its default settings: go_redis NAME PORT.
//
// The same checks as in checks.mjs, asked for in the same way.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	key          = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033"
	pipelined    = 1000
	reconnectMax = 10 * time.Second
)

var (
	ctx    = context.Background()
	name   = os.Args[1]
	client = redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Args[2]})
)

// A check panics where it fails; what it returns is a note.
var checks = map[string]func() string{
	"connect":           connect,
	"append":            appendOne,
	"WRONGVER":          wrongVersion,
	"scan":              scan,
	"EMAPPEND":          appendMany,
	"1 MiB binary":      binary,
	"pipeline of 1,000": pipeline,
	"MULTI refused":     multi,
	"EREAD woken":       readWoken,
	"EREAD null":        readNull,
	"push":              push,
	"after a stop":      func() string { return again(2) },
	"after kill -9":     func() string { return again(3) },
}

// The reason of a check that this client cannot pass.
type skipped string

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		verdict, text := run(checks[lines.Text()])
		fmt.Printf("%s\t%s\t%s\n", lines.Text(), verdict, strings.ReplaceAll(text, "\n", "\u2028"))
	}
}

func run(check func() string) (verdict, text string) {
	if check == nil {
		return "failed", "there is no such check"
	}
	defer func() {
		switch thrown := recover().(type) {
		case nil:
		case skipped:
			verdict, text = "skipped", string(thrown)
		default:
			verdict, text = "failed", fmt.Sprint(thrown)
		}
	}()
	return "ok", check()
}

func connect() string {
	equal(client.Ping(ctx).Val(), "PONG")
	equal(client.Echo(ctx, "héllo").Val(), "héllo")
	return ""
}

func appendOne() string {
	answer := entries(call("EAPPEND", name, "Created", `{"a": 1}`, "EXPECTED_VERSION", "empty"))
	equal(answer["stream_version"], int64(0))
	equal(call("ESVER", name), int64(0))
	equal(call("ESVER", name+"-nothing"), nil)
	return ""
}

func wrongVersion() string {
	err := client.Do(ctx, "EAPPEND", name, "Created", "EXPECTED_VERSION", "empty").Err()
	if !redis.HasErrorPrefix(err, "WRONGVER ") || !strings.Contains(err.Error(), "current version 0") {
		panic(fmt.Sprint("not refused: ", err))
	}
	return ""
}

func scan() string {
	call("EAPPEND", name, "Changed", "EXPECTED_VERSION", "0", "METADATA", "m")
	reply := entries(call("ESCAN", name, "-", "+"))
	equal(reply["has_more"], false)
	events := eventsOf(reply)
	equal(len(events), 2)
	equal(events[0]["event_name"], "Created")
	equal(events[0]["payload"], `{"a": 1}`)
	equal(events[1]["stream_version"], int64(1))
	equal(events[1]["metadata"], "m")
	newest := entries(call("ESCAN", name, "+", "-", "COUNT", 1))
	equal(newest["has_more"], true)
	equal(eventsOf(newest)[0]["event_name"], "Changed")
	return ""
}

func appendMany() string {
	a, b := name+"-a", name+"-b"
	answer := entries(call("EMAPPEND", key, a, "A1", "PAYLOAD", "1", b, "B1", a, "A2", "EXPECTED_VERSION", "0"))
	equal(answer["last_partition_sequence"].(int64)-answer["first_partition_sequence"].(int64), int64(2))
	events := eventsOf(answer)
	equal(events[1]["stream_id"], b)
	equal(events[2]["stream_version"], int64(1))
	equal(call("ESVER", a, "PARTITION_KEY", key), int64(1))
	return ""
}

func binary() string {
	payload, metadata := make([]byte, 1024*1024), make([]byte, 256)
	rand.Read(payload)
	for i := range metadata {
		metadata[i] = byte(i)
	}
	answer := entries(call("EAPPEND", name+"-binary", "Blob", "PAYLOAD", payload, "METADATA", metadata))
	event := entries(call("EGET", answer["event_id"]))
	if !bytes.Equal([]byte(event["payload"].(string)), payload) {
		panic("the payload does not come back as it was")
	}
	equal(event["metadata"], string(metadata))
	return ""
}

func pipeline() string {
	commands, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range pipelined {
			pipe.Do(ctx, "EAPPEND", name+"-pipeline", fmt.Sprint("E", i), "PAYLOAD", i)
		}
		return nil
	})
	check(err)
	for i, command := range commands {
		answer, err := command.(*redis.Cmd).Result()
		check(err)
		equal(entries(answer)["stream_version"], int64(i))
	}
	equal(call("ESVER", name+"-pipeline"), int64(pipelined-1))
	return ""
}

func multi() string {
	_, err := client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Do(ctx, "EAPPEND", name+"-multi", "E")
		pipe.Do(ctx, "EAPPEND", name+"-multi", "E")
		return nil
	})
	if err == nil {
		panic("it was accepted")
	}
	equal(call("ESVER", name+"-multi"), nil)
	equal(client.Ping(ctx).Val(), "PONG")
	return ""
}

// The client gives a reply 3 seconds unless told: BLOCK has to be shorter.
func readWoken() string {
	events := eventsOf(entries(call("EREAD", "BLOCK", 2500, "STREAMS", name+"-woken", 0)))
	equal(len(events), 1)
	equal(events[0]["event_name"], "Woken")
	return ""
}

func readNull() string {
	equal(call("EREAD", "BLOCK", 50, "STREAMS", name+"-woken", 1), nil)
	return ""
}

func push() string {
	panic(skipped("go-redis takes pushes of kinds subscribe and message for replies"))
}

// The client finds its way back by itself: it reads the events that were there, and appends one.
func again(count int) string {
	deadline := time.Now().Add(reconnectMax)
	failures := 0
	var reply any
	for {
		var err error
		if reply, err = client.Do(ctx, "ESCAN", name, "-", "+").Result(); err == nil {
			break
		}
		failures++
		if time.Now().After(deadline) {
			panic(err)
		}
	}
	equal(len(eventsOf(entries(reply))), count)
	call("EAPPEND", name, "Again", "EXPECTED_VERSION", count-1)
	if failures == 0 {
		return ""
	}
	return fmt.Sprintf("after %d commands that failed", failures)
}

func call(words ...any) any {
	reply, err := client.Do(ctx, words...).Result()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	check(err)
	return reply
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(found, wanted any) {
	if found != wanted {
		panic(fmt.Sprintf("wanted %v, found %v", wanted, found))
	}
}

// A RESP3 map, with text keys.
func entries(reply any) map[string]any {
	object := map[string]any{}
	for key, value := range reply.(map[any]any) {
		object[key.(string)] = value
	}
	return object
}

func eventsOf(reply map[string]any) []map[string]any {
	var events []map[string]any
	for _, event := range reply["events"].([]any) {
		events = append(events, entries(event))
	}
	return events
}
