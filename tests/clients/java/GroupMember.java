import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Java kafka-clients: `member BOOT TOPIC GROUP NAME` processes records until standard input ends. Says what happens,
 * each line in one write: `NAME assigned P,P`, `NAME revoked P,P`, `NAME record P VALUE`, `NAME left`.
 */
public class GroupMember {
    static final FileOutputStream OUT = new FileOutputStream(FileDescriptor.out);

    public static void main(String[] args) throws Exception {
        String name = args[4];
        AtomicBoolean stop = new AtomicBoolean();
        Thread input = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            stop.set(true);
        });
        input.setDaemon(true);
        input.start();
        Properties config = new Properties();
        config.put("bootstrap.servers", args[1]);
        config.put("group.id", args[3]);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        config.put("session.timeout.ms", "10000");
        config.put("heartbeat.interval.ms", "300");
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(args[2]), listener(consumer, name));
            while (!stop.get()) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                    say(name + " record " + record.partition() + " " + record.value());
                }
            }
        }
        say(name + " left");
    }

    static ConsumerRebalanceListener listener(KafkaConsumer<String, String> consumer, String name) {
        return new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                consumer.commitSync();
                say(name + " revoked " + numbers(partitions));
            }

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                say(name + " assigned " + numbers(partitions));
            }
        };
    }

    static String numbers(Collection<TopicPartition> partitions) {
        return partitions.stream().map(part -> Integer.toString(part.partition())).collect(Collectors.joining(","));
    }

    static void say(String line) {
        try {
            OUT.write((line + "\n").getBytes(StandardCharsets.UTF_8));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
