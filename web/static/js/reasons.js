// Why the server rejects a name, in Portuguese: the server says it in English. A sentence that is not here is shown as it is.

const REASONS = [
  [/^a name needs at least one visible character$/, () => "um nome precisa de ao menos um caractere visível"],
  [/^a name has at most (\d+) characters$/, (most) => `um nome tem no máximo ${most} caracteres`],
  [/^a name cannot contain the control character (\S+)$/, (character) => `um nome não pode ter o caractere de controle ${character}`],
  [/^a name cannot contain (\S+), which is invisible$/, (character) => `um nome não pode ter ${character}, que é invisível`],
  [/^a name cannot contain (\S+), which has no meaning in Unicode$/, (character) => `um nome não pode ter ${character}, que não tem significado em Unicode`],
  [/^a name can contain (\S+) only between letters that it joins or separates$/, (character) => `um nome só pode ter ${character} entre letras que ele une ou separa`],
  [/^a name cannot begin with (\S+), which is a combining mark$/, (character) => `um nome não pode começar com ${character}, que é um sinal combinante`],
  [
    /^a name has at most (\d+) combining marks in a row, or (\d+) of its own script$/,
    (most, own) => `um nome tem no máximo ${most} sinais combinantes seguidos, ou ${own} da sua própria escrita`,
  ],
];

/** The server's sentence in Portuguese. */
export function inPortuguese(sentence) {
  for (const [pattern, words] of REASONS) {
    const found = pattern.exec(sentence);
    if (found) return words(...found.slice(1));
  }
  return sentence;
}
