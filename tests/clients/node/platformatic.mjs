// @platformatic/kafka: produce, consume through a group, be a member of one, or make transactions.
import { load, portions, run, say, stopped, transaction, within } from './program.mjs'

const { Consumer, Producer, ProduceAcks, stringDeserializers, stringSerializers } = await load('@platformatic/kafka')

function producer (bootstrap, transactionalId) {
  return new Producer({
    clientId: 'platformatic', bootstrapBrokers: bootstrap.split(','), serializers: stringSerializers, idempotent: true, transactionalId,
    retryDelay: 50
  })
}

async function produce (bootstrap, topic, prefix, first, count) {
  const to = producer(bootstrap)
  for (const records of portions(prefix, Number(first), Number(count))) {
    await to.send({ acks: ProduceAcks.ALL, messages: records.map(record => ({ topic, ...record })) })
  }
  await to.close()
}

function consumer (bootstrap, groupId) {
  return new Consumer({
    clientId: 'platformatic', bootstrapBrokers: bootstrap.split(','), groupId, deserializers: stringDeserializers,
    autocommit: false, sessionTimeout: 10000, rebalanceTimeout: 10000, heartbeatInterval: 300, maxWaitTime: 100, retryDelay: 50
  })
}

function records (from, topic) {
  return from.consume({ topics: [topic], mode: 'committed', fallbackMode: 'earliest' })
}

/** Remembers the last message of each partition until it is committed. */
class Processed {
  #last = new Map()

  add (message) {
    this.#last.set(message.partition, message)
  }

  async commit () {
    const messages = [...this.#last.values()]
    this.#last.clear()
    await Promise.all(messages.map(message => message.commit()))
  }
}

async function consume (bootstrap, topic, group, count) {
  const from = consumer(bootstrap, group)
  const stream = await records(from, topic)
  const processed = new Processed()
  let seen = 0
  const all = new Promise((resolve, reject) => {
    stream.on('error', reject)
    stream.on('data', message => {
      if (seen === Number(count)) return
      say(message.value)
      processed.add(message)
      seen += 1
      if (seen === Number(count)) resolve()
    })
  })
  await within(60, `${count} records`, all)
  await processed.commit()
  await from.close(true)
}

async function member (bootstrap, topic, group, name) {
  const from = consumer(bootstrap, group)
  const processed = new Processed()
  let owned = []
  const revoke = () => {
    say(name, 'revoked', owned.join(','))
    owned = []
  }
  from.on('consumer:group:join', ({ assignments }) => {
    owned = assignments.flatMap(one => one.topic === topic ? one.partitions : [])
    say(name, 'assigned', owned.join(','))
  })
  from.on('consumer:group:rebalance', revoke)
  const stream = await records(from, topic)
  const failed = new Promise((resolve, reject) => stream.on('error', reject))
  stream.on('data', message => {
    if (!owned.includes(message.partition)) return
    say(name, 'record', message.partition, message.value)
    processed.add(message)
  })
  const timer = setInterval(() => processed.commit().catch(error => console.error(error)), 100)
  await Promise.race([stopped(), failed])
  clearInterval(timer)
  revoke()
  await processed.commit()
  await from.close(true)
  say(name, 'left')
}

async function transact (bootstrap, source, target, group, transactions) {
  const from = consumer(bootstrap, group)
  const stream = await records(from, source)
  const sources = stream[Symbol.asyncIterator]()
  const to = producer(bootstrap, group)
  for (let number = 0; number < Number(transactions); number++) {
    const { aborted, records } = transaction(number)
    const open = await to.beginTransaction()
    await open.send({ acks: ProduceAcks.ALL, messages: records.map(record => ({ topic: target, ...record })) })
    await open.addConsumer(from)
    if (aborted) {
      // What it says of an offset is of a message that it was given: an aborted transaction takes none of them.
      await open.abort()
    } else {
      let last
      for (let n = 0; n < 10; n++) last = (await sources.next()).value
      await open.addOffset(last)
      await open.commit()
    }
  }
  await to.close()
  await from.close(true)
}

await run({ produce, consume, member, transact })
