// Processes that end with the tests, whatever ends those: the kernel sees to it (PR_SET_PDEATHSIG).

import { spawn } from 'node:child_process';

import { within } from './waiting.js';

/** Starts a program. `ended` becomes its exit code, or the signal that ended it. */
export function start(program, args, options = {}) {
  const bound = ['--pdeathsig', 'KILL', '--', program, ...args];
  const child = spawn('setpriv', bound, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  const ended = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal));
  });
  // Who does not wait for it learns of a program that is missing when it says nothing.
  ended.catch(() => {});
  return { child, ended, name: program };
}

/** Ends it, if it has not ended yet, and waits for that. */
export async function stop({ child, ended, name }) {
  child.kill('SIGKILL');
  await within(ended, `the end of ${name}`);
}

/** Gives each line of a stream. */
export function lines(stream, take, atEnd = () => {}) {
  let text = '';
  stream.setEncoding('utf8');
  stream.on('data', (piece) => {
    text += piece;
    const whole = text.split('\n');
    text = whole.pop();
    whole.forEach((line) => take(line.replace(/\r$/, '')));
  });
  stream.on('close', () => {
    if (text) take(text);
    atEnd();
  });
}
