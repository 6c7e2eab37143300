// KafkaJS: produce, consume through a group, be a member of one, or make transactions.
import { load, portions, run, say, stopped, transaction, within } from './program.mjs'

/** Of the topic to which transactions go. */
const PARTITIONS = 6

const { Kafka, logLevel, Partitioners } = (await load('kafkajs')).default

function kafka (bootstrap) {
  return new Kafka({
    clientId: 'kafkajs', brokers: bootstrap.split(','), logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50, retries: 15 }
  })
}

async function producer (bootstrap, transactionalId) {
  const made = kafka(bootstrap).producer({
    idempotent: true, maxInFlightRequests: 1, transactionalId, createPartitioner: Partitioners.DefaultPartitioner
  })
  await made.connect()
  return made
}

async function produce (bootstrap, topic, prefix, first, count) {
  const to = await producer(bootstrap)
  for (const messages of portions(prefix, Number(first), Number(count))) {
    await to.send({ topic, acks: -1, messages })
  }
  await to.disconnect()
}

/** A member of the group; `take(partition, message)` says whether the message was processed. */
async function member (bootstrap, topic, groupId, take, joined, rebalancing) {
  const consumer = kafka(bootstrap).consumer({ groupId, sessionTimeout: 10000, heartbeatInterval: 300, maxWaitTimeInMs: 100 })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => joined(payload.memberAssignment[topic] ?? []))
  consumer.on(consumer.events.REBALANCING, rebalancing)
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch: { partition, messages }, resolveOffset, isRunning, isStale }) => {
      let next
      for (const message of messages) {
        if (!isRunning() || isStale() || !take(partition, message)) break
        resolveOffset(message.offset)
        next = String(BigInt(message.offset) + 1n)
      }
      if (next !== undefined) {
        await consumer.commitOffsets([{ topic, partition, offset: next }])
      }
    }
  })
  return consumer
}

async function consume (bootstrap, topic, group, count) {
  let seen = 0
  let done
  const all = new Promise(resolve => { done = resolve })
  const take = (_, message) => {
    if (seen === Number(count)) return false
    say(message.value)
    seen += 1
    if (seen === Number(count)) done()
    return true
  }
  const consumer = await member(bootstrap, topic, group, take, () => {}, () => {})
  await within(60, `${count} records`, all)
  await consumer.disconnect()
}

async function steady (bootstrap, topic, group, name) {
  let owned = []
  const revoke = () => {
    say(name, 'revoked', owned.join(','))
    owned = []
  }
  const take = (partition, message) => {
    if (!owned.includes(partition)) return false
    say(name, 'record', partition, message.value)
    return true
  }
  const joined = partitions => {
    owned = partitions
    say(name, 'assigned', owned.join(','))
  }
  const consumer = await member(bootstrap, topic, group, take, joined, revoke)
  await stopped()
  revoke()
  await consumer.disconnect()
  say(name, 'left')
}

async function transact (bootstrap, source, target, group, transactions) {
  const to = await producer(bootstrap, group)
  let done = 0
  for (let number = 0; number < Number(transactions); number++) {
    const { aborted, records } = transaction(number)
    const open = await to.transaction()
    // One partition a transaction: where a send goes to several brokers and one of them wants it again (the transaction
    // before is about to end), KafkaJS sends again what is still under way to the others, with new sequence numbers.
    const partition = Math.floor(number / 3) % PARTITIONS
    await open.send({ topic: target, acks: -1, messages: records.map(record => ({ ...record, partition })) })
    await open.sendOffsets({
      consumerGroupId: group, topics: [{ topic: source, partitions: [{ partition: 0, offset: String(done + 10) }] }]
    })
    if (aborted) {
      await open.abort()
    } else {
      await open.commit()
      done += 10
    }
  }
  await to.disconnect()
}

await run({ produce, consume, member: steady, transact })
