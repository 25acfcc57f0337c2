import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "../talaria_nb/static",
    target: "es2022",
    emptyOutDir: false,
    minify: true,
    lib: {
      entry: { session: "src/session.ts", view: "src/view.ts" },
      formats: ["es"],
    },
  },
});
