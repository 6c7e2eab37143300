// What the clients for Node.js share: where their packages are, words on standard output, and the command line
//
//   produce BOOT TOPIC PREFIX FIRST COUNT
//   consume BOOT TOPIC GROUP COUNT
//   member BOOT TOPIC GROUP NAME
//   transact BOOT SOURCE TARGET GROUP TRANSACTIONS
import { writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** A package that tests/platform/setup installed. */
export async function load (name) {
  const require = createRequire(join(process.env.TIDEMARK_NODE, 'package.json'))
  return await import(pathToFileURL(require.resolve(name)))
}

/** Writes a line in one write. */
export function say (...words) {
  writeSync(1, words.join(' ') + '\n')
}

/** When standard input ends. */
export function stopped () {
  return new Promise(resolve => process.stdin.resume().on('end', resolve))
}

/** The promise's value, or an error after so many seconds. */
export async function within (seconds, what, promise) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${seconds} s`)), seconds * 1000)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The records of transaction NUMBER: every third is aborted. */
export function transaction (number) {
  const kind = number % 3 === 1 ? 'aborted' : 'committed'
  const records = Array.from({ length: 10 }, (_, n) => ({ key: String(n), value: `${kind}-${number}-${n}` }))
  return { aborted: kind === 'aborted', records }
}

/** `count` records from `first` on, in portions. */
export function * portions (prefix, first, count, size = 1000) {
  for (let at = first; at < first + count; at += size) {
    const length = Math.min(size, first + count - at)
    yield Array.from({ length }, (_, n) => ({ key: String(at + n), value: `${prefix}-${at + n}` }))
  }
}

/** Runs the verb of the command line. */
export async function run (verbs) {
  const [verb, ...args] = process.argv.slice(2)
  try {
    await verbs[verb](...args)
  } catch (error) {
    console.error(error)
    process.exit(1)
  }
  process.exit(0)
}
