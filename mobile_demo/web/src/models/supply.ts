/** All files of a bundle and the runtime, fetched once and with one count of bytes. */

import { Problem } from "../problem";
import { type Bundle, filesOf, type HashedFile, readBundle, type StageName } from "./bundle";
import { prepareRuntime, RUNTIME, Stage } from "./runtime";
import { type OnBytes, Store } from "./store";

const UNREACHABLE =
  "The models can't be reached. Connect to the network once; afterwards the page works offline.";

export class Supply {
  private ready: Promise<void> | undefined;

  private constructor(
    readonly bundle: Bundle,
    private readonly store: Store,
    readonly threads: number,
  ) {}

  static async open(folder: URL, threads: number): Promise<Supply> {
    const store = await Store.open();
    const answer = await store.latest(new URL("quantface.json", folder));
    if (answer === undefined) throw new Problem(UNREACHABLE);
    const manifest = await answer.json().catch(() => {
      throw new Problem("The model list (quantface.json) can't be read. Build the bundle again.");
    });
    return new Supply(readBundle(manifest, folder), store, threads);
  }

  get files(): HashedFile[] {
    return [RUNTIME, ...filesOf(this.bundle)];
  }

  get bytes(): number {
    return this.files.reduce((sum, file) => sum + file.bytes, 0);
  }

  /** Have every file at hand; `onDone` is told how many bytes are. One download at a time. */
  fetchAll(onDone: (bytes: number) => void): Promise<void> {
    this.ready ??= this.fetchEach(onDone).catch((error: unknown) => {
      this.ready = undefined;
      throw error;
    });
    return this.ready;
  }

  async openStage(name: StageName): Promise<Stage> {
    const { model, data } = this.bundle.stages[name];
    return Stage.open(
      await this.store.get(model, ignore),
      data && (await this.store.get(data, ignore)),
    );
  }

  private async fetchEach(onDone: (bytes: number) => void): Promise<void> {
    await this.store.keepOnly(this.files);
    let done = 0;
    const count: OnBytes = (bytes) => {
      done += bytes;
      onDone(done);
    };
    prepareRuntime(await this.store.get(RUNTIME, count), this.threads);
    // Only fetched here: of large models one stage's bytes are in memory at a time.
    for (const file of filesOf(this.bundle)) {
      if (await this.store.has(file)) count(file.bytes);
      else await this.store.get(file, count);
    }
  }
}

function ignore(): void {}
