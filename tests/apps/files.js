// 10,000 files at once: written, read back and compared, their state asked for, removed.
'use strict';

const fs = require('fs');
const path = require('path');

const dir = process.argv[2];
const count = 10000;

const name = (i) => path.join(dir, `file-${i}`);

// Between 1 and 8192 bytes that only this number has.
function contents(i) {
	const bytes = Buffer.alloc(1 + (i * 7919) % 8192);
	for (let at = 0, x = i + 1; at < bytes.length; at++) {
		x = (Math.imul(x, 1103515245) + 12345) >>> 0;
		bytes[at] = x >>> 16;
	}
	return bytes;
}

const all = (what) => Promise.all(Array.from({ length: count }, (_, i) => what(i)));

// Raw calls on descriptors, as many at once as there may be open.
function descriptors() {
	const bytes = 4096;
	const fd = fs.openSync(path.join(dir, 'one'), 'w+');
	const at = (i, call, buffer) => new Promise((done, failed) => {
		call(fd, buffer, 0, bytes, i * bytes, (error, n) => {
			if (error || n !== bytes)
				failed(error || new Error(`${n} bytes of ${bytes}`));
			else
				done(buffer);
		});
	});

	return all((i) => at(i, fs.write, Buffer.alloc(bytes, i % 251)))
		.then(() => all((i) => at(i, fs.read, Buffer.alloc(bytes))))
		.then((buffers) => buffers.forEach((buffer, i) => {
			if (!buffer.equals(Buffer.alloc(bytes, i % 251)))
				throw new Error(`block ${i} is not what was written`);
		}))
		.then(() => fs.promises.unlink(path.join(dir, 'one')))
		.then(() => fs.closeSync(fd));
}

// fs.promises opens, so no more files at once than descriptors.
async function batches(what) {
	for (let from = 0; from < count; from += 500)
		await Promise.all(Array.from({ length: 500 }, (_, i) => what(from + i)));
}

async function main() {
	await descriptors();
	await batches((i) => fs.promises.writeFile(name(i), contents(i)));
	await batches(async (i) => {
		const got = await fs.promises.readFile(name(i));
		if (!got.equals(contents(i)))
			throw new Error(`${name(i)} is not what was written`);
	});
	const sizes = await all((i) => fs.promises.stat(name(i)).then((st) => st.size));
	sizes.forEach((size, i) => {
		if (size !== contents(i).length)
			throw new Error(`${name(i)} has ${size} bytes`);
	});
	await all((i) => fs.promises.unlink(name(i)));
	const missing = await all((i) => fs.promises.stat(name(i)).then(() => 'there', (error) => error.code));
	if (missing.some((code) => code !== 'ENOENT'))
		throw new Error('a removed file is still there');
	if (fs.readdirSync(dir).length !== 0)
		throw new Error('something is left');
	console.log(`${count} blocks and ${count} files written, read, compared, asked for and removed`);
}

main().catch((error) => {
	console.error(error);
	process.exitCode = 1;
});
