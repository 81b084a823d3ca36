// The page's texts: Portuguese, or English when the browser's language is English.

import { language } from "./browser.js";
import { inPortuguese } from "./reasons.js";

const pt = {
  connecting: "Conectando…",
  connected: "Conectado",
  reconnecting: "Sem conexão com a sala. Tentando de novo…",
  offline: "Sem internet. O que você escrever fica guardado.",
  draining: "O servidor vai reiniciar; mudando para outro…",
  message: "Mensagem",
  messages: "Mensagens",
  placeholder: "Digite sua mensagem...",
  send: "Enviar",
  hint: "Enter envia, Shift+Enter quebra a linha.",
  left: (n) => `${n} de sobra`,
  tooMany: (n) => (n === 1 ? "1 caractere a mais" : `${n} caracteres a mais`),
  pending: "enviando",
  waiting: "na fila, espera a conexão",
  sent: "enviada",
  failed: "Não enviada",
  retry: "Tentar de novo",
  discard: "Descartar",
  you: "você",
  peopleTitle: "Pessoas",
  people: (n) => (n === 1 ? "1 pessoa aqui" : `${n} pessoas aqui`),
  rest: (n) => (n === 1 ? "e mais 1" : `e mais ${n}`),
  typingOne: (a) => `${a} está digitando…`,
  typingTwo: (a, b) => `${a} e ${b} estão digitando…`,
  typingMany: "Várias pessoas estão digitando…",
  newMessages: "Novas mensagens",
  newestCount: (n) => (n === 1 ? "1 nova mensagem" : `${n} novas mensagens`),
  newest: "Ir para o fim",
  beginning: "Aqui começa a conversa",
  loading: "Carregando mensagens anteriores…",
  empty: "Ninguém disse nada ainda. Diga oi!",
  restarted: "A conversa recomeçou: o histórico de antes não existe mais.",
  gap: "Algumas mensagens deste período já foram apagadas pela retenção da sala.",
  unreadable: "Esta mensagem não pode ser mostrada.",
  reloaded: "Você ficou fora por muito tempo; a conversa foi recarregada.",
  twin: (name) => `Você também está aqui em outra janela, como ${name}.`,
  dismiss: "Fechar",
  twinAction: "Ser outra pessoa nesta janela",
  askName: "Qual é o seu nome?",
  askNameWhy: "É o nome que os outros veem junto das suas mensagens.",
  name: "Nome",
  yourName: "Seu nome",
  changeName: "Mudar de nome:",
  somebodyElse: "Ser outra pessoa, só nesta janela",
  cancel: "Cancelar",
  noName: "Entrar sem nome",
  enter: "Entrar",
  save: "Salvar",
  nameTooLong: (n) => `No máximo ${n} caracteres.`,
  code: {
    bad_request: "o servidor não entendeu o pedido",
    empty_text: "a mensagem está vazia",
    text_too_long: "a mensagem é longa demais para esta sala",
    invalid_id: "o servidor não aceitou o identificador",
    invalid_name: "este nome não pode ser usado aqui",
    invalid_token: "o servidor não aceitou o segredo deste navegador",
    rate_limited: "mensagens demais em pouco tempo",
    server_full: "a sala está cheia. Tentando de novo…",
    address_full: "há conexões demais do seu endereço de rede. Tentando de novo…",
    draining: "o servidor está reiniciando",
    timeout: "a sala não confirmou a tempo",
    unavailable: "a sala está fora do ar",
    not_accepted: "o broker da sala não aceita esta mensagem",
    unknown: "o servidor recusou o pedido",
    forbidden_origin: () => `o servidor não aceita conexões da origem ${location.origin}. Quem administra a sala precisa permitir essa origem.`,
    unknown_host: () => `o servidor não atende pelo endereço ${location.host}. Quem administra a sala precisa permitir esse endereço.`,
  },
};

const en = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "No connection to the room. Trying again…",
  offline: "No internet. What you write is kept.",
  draining: "The server is about to restart; moving to another…",
  message: "Message",
  messages: "Messages",
  placeholder: "Type your message...",
  send: "Send",
  hint: "Enter sends, Shift+Enter breaks the line.",
  left: (n) => `${n} left`,
  tooMany: (n) => (n === 1 ? "1 character too many" : `${n} characters too many`),
  pending: "sending",
  waiting: "queued until connected",
  sent: "sent",
  failed: "Not sent",
  retry: "Try again",
  discard: "Discard",
  you: "you",
  peopleTitle: "People",
  people: (n) => (n === 1 ? "1 person here" : `${n} people here`),
  rest: (n) => `and ${n} more`,
  typingOne: (a) => `${a} is typing…`,
  typingTwo: (a, b) => `${a} and ${b} are typing…`,
  typingMany: "Several people are typing…",
  newMessages: "New messages",
  newestCount: (n) => (n === 1 ? "1 new message" : `${n} new messages`),
  newest: "Go to the end",
  beginning: "The conversation begins here",
  loading: "Loading earlier messages…",
  empty: "Nobody has said anything yet. Say hi!",
  restarted: "The conversation has started anew: its earlier history is gone.",
  gap: "Some messages from this time were already removed by the room's retention.",
  unreadable: "This message cannot be shown.",
  reloaded: "You were away for long; the conversation was loaded again.",
  twin: (name) => `You are also here in another window, as ${name}.`,
  dismiss: "Dismiss",
  twinAction: "Be somebody else in this window",
  askName: "What is your name?",
  askNameWhy: "It is the name others see next to your messages.",
  name: "Name",
  yourName: "Your name",
  changeName: "Change name:",
  somebodyElse: "Be somebody else, in this window only",
  cancel: "Cancel",
  noName: "Enter without a name",
  enter: "Enter",
  save: "Save",
  nameTooLong: (n) => `At most ${n} characters.`,
  code: {
    bad_request: "the server did not understand the request",
    empty_text: "the message is empty",
    text_too_long: "the message is too long for this room",
    invalid_id: "the server did not accept the identifier",
    invalid_name: "this name cannot be used here",
    invalid_token: "the server did not accept the secret of this browser",
    rate_limited: "too many messages in a short time",
    server_full: "the room is full. Trying again…",
    address_full: "too many connections come from your network address. Trying again…",
    draining: "the server is restarting",
    timeout: "the room did not confirm in time",
    unavailable: "the room is out of service",
    not_accepted: "the broker of the room does not accept this message",
    unknown: "the server rejected the request",
    forbidden_origin: () => `the server accepts no connections from the origin ${location.origin}. The room's administrator must allow this origin.`,
    unknown_host: () => `the server is not reached as ${location.host}. The room's administrator must allow this host.`,
  },
};

const browser = language();
const isEnglish = /^en\b/i.test(browser);
const words = isEnglish ? en : pt;

/** The locale for Intl: the browser's variant of the page's language. */
export const locale = isEnglish || /^pt\b/i.test(browser) ? browser : "pt-BR";

/** The text for `key`, with its values filled in. */
export function t(key, ...values) {
  const entry = words[key];
  return typeof entry === "function" ? entry(...values) : entry;
}

/** The text for a rejection's code. */
export function codeInWords(code) {
  const entry = words.code[code] ?? words.code.unknown;
  return typeof entry === "function" ? entry() : entry;
}

/** The server's own sentence about a rejection, which is English, in the page's language. */
export function reasonInWords(sentence = "") {
  return isEnglish ? sentence : inPortuguese(sentence);
}

/** Sets the texts of elements that name them in `data-i18n` (text), `data-i18n-placeholder` or `data-i18n-label`. */
export function translate(root) {
  document.documentElement.lang = locale;
  for (const element of root.querySelectorAll("[data-i18n]")) element.textContent = t(element.dataset.i18n);
  for (const element of root.querySelectorAll("[data-i18n-placeholder]")) element.placeholder = t(element.dataset.i18nPlaceholder);
  for (const element of root.querySelectorAll("[data-i18n-label]")) element.setAttribute("aria-label", t(element.dataset.i18nLabel));
}
